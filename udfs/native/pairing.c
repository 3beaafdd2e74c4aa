/* Which sample belongs to which instant: one pass over both where the instants ascend. */
#include "ranks.h"

enum { NEAREST, LAST, NEXT, BETWEEN };
enum { GATHER_BLOCK = 1024 };

typedef struct {
    int64_t *index;       /* of the sample whose time counts; NOBODY for none */
    int64_t *t_ns;        /* its time; 0 for none */
    int64_t *distance_ns; /* its time minus the instant; 0 for none */
    uint8_t *state;
    int64_t *left; /* BETWEEN: the sample that `share` counts from; 0 where there is no value */
    double *share; /* BETWEEN: how much of the way to the next one the instant is; 0 for none */
} Pairs;

typedef struct {
    int64_t index, left;
    double share;
    uint8_t state;
} Choice;

static inline Choice nobody(uint8_t reason, uint8_t other) {
    Choice choice = {NOBODY, 0, 0, reason ? reason : other ? other : MISSING};
    return choice;
}

/* One side has no sample in this segment: there is nothing to interpolate with. */
FOR_EACH Choice at_the_edge(const Samples *samples, const Segment *segment,
                                 const Limits *limits, int64_t index, int64_t instant,
                                 int is_past, uint64_t reach) {
    int64_t t_ns = samples->t_ns[index];
    uint64_t away = is_past ? apart(instant, t_ns) : apart(t_ns, instant);
    uint8_t cut = is_past ? segment->above : segment->below;
    Choice choice = {index, index, 0, cut ? cut : STALE};
    if (away <= reach && (!is_past || away <= limits->max_age_ns)) choice.state = OK;
    return choice;
}

FOR_EACH Choice between_two(const Samples *samples, const Limits *limits, int64_t after,
                                 int64_t instant, int method) {
    uint64_t from_before = apart(instant, samples->t_ns[after - 1]);
    uint64_t to_after = apart(samples->t_ns[after], instant);
    uint64_t span = from_before + to_after;
    int is_past = from_before <= to_after;
    int is_hole = span > limits->max_gap_ns;
    int is_near = (is_past ? from_before : to_after) <= limits->tolerance_ns;
    Choice choice = {is_past ? after - 1 : after, after - 1, 0, is_hole ? GAP : STALE};
    if (method == NEAREST) {
        is_near &= !is_past || from_before <= limits->max_age_ns;
        if (is_near && !(is_hole && limits->hole_is_gap)) choice.state = OK;
    } else if (!is_hole && is_near && from_before <= limits->max_age_ns) {
        choice.state = OK;
        choice.share = (double)from_before / (double)span;
    }
    return choice;
}

FOR_EACH Choice one_side(const Samples *samples, const Segment *segment,
                              const Limits *limits, int64_t at, int64_t instant, int method) {
    int64_t index = method == LAST ? at - 1 : at;
    if (method == LAST && at == segment->begin) return nobody(segment->below, OK);
    if (method == NEXT && at == segment->end) return nobody(segment->above, OK);
    int64_t t_ns = samples->t_ns[index];
    uint64_t away = method == LAST ? apart(instant, t_ns) : apart(t_ns, instant);
    int64_t other = method == LAST ? at : at - 1;
    int is_hole = 0;
    if (away && other >= segment->begin && other < segment->end) {
        int64_t there = samples->t_ns[other];
        uint64_t span = method == LAST ? apart(there, t_ns) : apart(t_ns, there);
        is_hole = span > limits->max_gap_ns;
    }
    Choice choice = {index, index, 0, is_hole ? GAP : STALE};
    int is_near = away <= limits->tolerance_ns;
    if (method == LAST) is_near &= away <= limits->max_age_ns;
    if (is_near && !(is_hole && limits->hole_is_gap)) choice.state = OK;
    return choice;
}

FOR_EACH Choice choose(const Samples *samples, const Segment *segment, const Limits *limits,
                            int64_t at, int64_t instant, int method) {
    if (method == LAST || method == NEXT)
        return one_side(samples, segment, limits, at, instant, method);
    int has_before = at > segment->begin, has_after = at < segment->end;
    if (has_after && samples->t_ns[at] == instant) {
        Choice choice = {at, at, 0, OK};
        return choice;
    }
    if (has_before && has_after) return between_two(samples, limits, at, instant, method);
    if (!has_before && !has_after) return nobody(segment->below, segment->above);
    uint64_t reach = method == NEAREST ? limits->tolerance_ns : limits->edge_ns;
    return at_the_edge(samples, segment, limits, has_before ? at - 1 : at, instant, has_before,
                       reach);
}

FOR_EACH void write_choice(const Samples *samples, Choice choice, int64_t instant, int64_t row,
                                const Pairs *out, int method) {
    int is_known = choice.index != NOBODY;
    out->index[row] = choice.index;
    out->t_ns[row] = is_known ? samples->t_ns[choice.index] : 0;
    out->distance_ns[row] = is_known ? distance(samples->t_ns[choice.index], instant) : 0;
    out->state[row] = choice.state;
    if (method == BETWEEN) {
        out->left[row] = choice.left;
        out->share[row] = choice.share;
    }
}

static inline double share_of(uint64_t part, uint64_t whole) {
    if (whole <= INT64_MAX) return (double)(int64_t)part / (double)(int64_t)whole; /* quicker */
    return (double)part / (double)whole;
}

/* The same as `choose` and `write_choice` for instants with samples of their segment on both sides:
   without a branch to be guessed. */
FOR_EACH void write_inner(const int64_t *restrict t_ns, Limits limits,
                               const int64_t *restrict ranks, const int64_t *restrict instants,
                               int rows, int64_t row, const Pairs *pairs, int method) {
    int64_t *restrict index = pairs->index + row, *restrict own_ns = pairs->t_ns + row;
    int64_t *restrict distance_ns = pairs->distance_ns + row, *restrict left = pairs->left + row;
    double *restrict share = pairs->share + row;
    uint8_t *restrict state = pairs->state + row;
    for (int i = 0; i < rows; i++) {
        int64_t at = ranks[i], before = t_ns[at - 1], after = t_ns[at];
        uint64_t from_before = apart(instants[i], before), to_after = apart(after, instants[i]);
        uint64_t span = from_before + to_after;
        int is_exact = method == LAST ? !from_before : !to_after;
        int is_past = method == LAST || (method != NEXT && !is_exact & (from_before <= to_after));
        uint64_t away = is_past ? from_before : to_after;
        int is_hole = !is_exact & (span > limits.max_gap_ns);
        int is_near = away <= limits.tolerance_ns;
        if (method == BETWEEN)
            is_near &= is_exact | (from_before <= limits.max_age_ns);
        else
            is_near &= !is_past | (away <= limits.max_age_ns);
        int is_ok = is_near & !(is_hole & (method == BETWEEN || limits.hole_is_gap));
        uint64_t most = (uint64_t)INT64_MAX + (uint64_t)is_past;
        uint64_t held = away < most ? away : most;
        index[i] = at - is_past;
        own_ns[i] = is_past ? before : after;
        distance_ns[i] = (int64_t)(is_past ? 0 - held : held);
        state[i] = (uint8_t)(is_ok ? OK : is_hole ? GAP : STALE);
        if (method == BETWEEN) {
            left[i] = at - !is_exact;
            share[i] = (is_ok & !is_exact) ? share_of(from_before, span) : 0;
        }
    }
}

/* How many instants from `row` on lie in the segment, at most a block; and whether they ascend. */
static inline int run_of(const Segment *segment, const int64_t *instants, int64_t row,
                         int64_t count, int *ascends) {
    int most = count - row < RANK_BLOCK ? (int)(count - row) : RANK_BLOCK;
    int64_t is_out = 0, descends = 0;
    for (int i = 0; i < most; i++) is_out |= !is_in(segment, instants[row + i]);
    for (int i = 1; i < most; i++) descends |= instants[row + i] < instants[row + i - 1];
    *ascends = !descends;
    int rows = 1;
    while (is_out && rows < most && is_in(segment, instants[row + rows])) rows++;
    return is_out ? rows : most;
}

FOR_EACH int64_t pair_all(const Samples *samples, const Limits *limits,
                               const int64_t *instants, int64_t count, const Pairs *pairs,
                               int method) {
    Samples all = *samples; /* else the compiler must read them again after each store */
    Limits far = *limits;
    Pairs out = *pairs;
    Segment segment = segment_of(&all, count ? instants[0] : 0);
    int64_t at = segment.begin, unknown = 0, ranks[RANK_BLOCK];
    for (int64_t row = 0; row < count;) {
        if (!is_in(&segment, instants[row])) {
            segment = segment_of(&all, instants[row]);
            at = segment.begin;
        }
        int ascends, rows = run_of(&segment, instants, row, count, &ascends);
        int is_inner = block_ranks(all.t_ns, &segment, at, instants + row, rows, ascends,
                                   method == LAST, ranks);
        at = ranks[rows - 1];
        if (is_inner)
            write_inner(all.t_ns, far, ranks, instants + row, rows, row, &out, method);
        for (int i = 0; !is_inner && i < rows; i++) {
            Choice choice = choose(&all, &segment, &far, ranks[i], instants[row + i], method);
            unknown += choice.index == NOBODY;
            write_choice(&all, choice, instants[row + i], row + i, &out, method);
        }
        row += rows;
    }
    return unknown;
}

/* Find for each of `count` instants, in any order, the sample that a method names. Gives how many
   have none. */
int64_t pair_samples(const Samples *samples, const Limits *limits, int32_t method,
                     const int64_t *instants, int64_t count, const Pairs *pairs) {
    switch (method) { /* one loop for each, without the others' questions */
    case NEAREST: return pair_all(samples, limits, instants, count, pairs, NEAREST);
    case LAST: return pair_all(samples, limits, instants, count, pairs, LAST);
    case NEXT: return pair_all(samples, limits, instants, count, pairs, NEXT);
    default: return pair_all(samples, limits, instants, count, pairs, BETWEEN);
    }
}

/* Leave a sample to one of the instants that have it: the closest, then the first; STALE for the
   others. `user`: room for a number for each sample. */
void use_once(const int64_t *index, const int64_t *distance_ns, int64_t count, int64_t *user,
              int64_t samples, uint8_t *state) {
    for (int64_t i = 0; i < samples; i++) user[i] = NOBODY;
    for (int64_t i = 0; i < count; i++) {
        if (state[i] != OK) continue;
        int64_t other = user[index[i]];
        if (other != NOBODY) {
            int64_t mine = distance_ns[i], theirs = distance_ns[other];
            /* Below zero both, since the least number has no positive one. */
            int is_closer = (mine < 0 ? mine : -mine) > (theirs < 0 ? theirs : -theirs);
            state[is_closer ? other : i] = STALE;
            if (!is_closer) continue;
        }
        user[index[i]] = i;
    }
}

/* Events [t_ns, ends) by their beginning; `instants` ascend. The event that began last of those that
   hold an instant. `open`: room for a number for each event; what is in it is in order of the
   beginnings, and each ends before the one below it, for what ends sooner and began sooner is never
   wanted again. */
int64_t pair_events(const Samples *samples, const int64_t *ends, const Limits *limits,
                    const int64_t *instants, int64_t count, int64_t *open, const Pairs *pairs) {
    Pairs out = *pairs;
    Segment segment = {INT64_MAX, INT64_MIN, 0, 0, OK, OK};
    int64_t depth = 0, next = 0, cut_end = INT64_MIN, unknown = 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t instant = instants[i];
        if (!is_in(&segment, instant)) {
            segment = segment_of(samples, instant);
            for (; depth; depth--)
                if (ends[open[depth - 1]] > cut_end) cut_end = ends[open[depth - 1]];
            for (; next < segment.begin; next++)
                if (ends[next] > cut_end) cut_end = ends[next];
        }
        for (; next < segment.end && samples->t_ns[next] <= instant; next++) {
            while (depth && ends[open[depth - 1]] <= ends[next]) depth--;
            open[depth++] = next;
        }
        while (depth && ends[open[depth - 1]] <= instant) depth--;
        out.index[i] = NOBODY, out.t_ns[i] = 0, out.distance_ns[i] = 0;
        out.state[i] = segment.below && instant < cut_end ? segment.below : MISSING;
        unknown += !depth;
        if (!depth) continue;
        int64_t t_ns = samples->t_ns[open[depth - 1]];
        uint64_t age = apart(instant, t_ns);
        out.index[i] = open[depth - 1];
        out.t_ns[i] = t_ns;
        out.distance_ns[i] = distance(t_ns, instant);
        int is_near = age <= limits->tolerance_ns && age <= limits->max_age_ns;
        out.state[i] = is_near ? OK : STALE;
    }
    return unknown;
}

/* The first number that is less than the one before it; NOBODY where all ascend. */
int64_t first_descent(const int64_t *numbers, int64_t count) {
    for (int64_t begin = 1; begin < count; begin += 1024) {
        int64_t end = count - begin < 1024 ? count : begin + 1024, descends = 0;
        for (int64_t i = begin; i < end; i++) descends |= numbers[i] < numbers[i - 1];
        for (int64_t i = begin; descends && i < end; i++)
            if (numbers[i] < numbers[i - 1]) return i;
    }
    return NOBODY;
}

#define GATHER(type) \
    for (int64_t i = 0; i < rows; i++) \
        ((type *)out)[i] = ((const type *)values)[index[i] > 0 ? index[i] : 0]

static void gather(const void *values, int64_t width, const int64_t *index, int64_t rows,
                   void *out) {
    switch (width) {
    case 1: GATHER(uint8_t); break;
    case 2: GATHER(uint16_t); break;
    case 4: GATHER(uint32_t); break;
    default: GATHER(uint64_t);
    }
}

/* Values of 1, 2, 4 or 8 bytes at the indices, of which those below zero give the first value; a
   block of rows at a time for all columns, so that the indices are read once. */
void gather_columns(const uint8_t *const *columns, const int64_t *widths, int64_t column_count,
                    const int64_t *index, int64_t count, uint8_t *const *out) {
    for (int64_t row = 0; row < count; row += GATHER_BLOCK) {
        int64_t rows = count - row < GATHER_BLOCK ? count - row : GATHER_BLOCK;
        for (int64_t column = 0; column < column_count; column++)
            gather(columns[column], widths[column], index + row, rows,
                   out[column] + row * widths[column]);
    }
}
