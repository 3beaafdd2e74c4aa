/* What samples within a window come to. */
#include <math.h>
#include <string.h>

#include "samples.h"

typedef struct {
    int64_t *first, *past; /* samples of the window, half-open, on the instant's side of a boundary */
    int64_t *t_ns;         /* of the last of them; 0 for none */
    int64_t *distance_ns;
    uint8_t *state;
} Windows;

static inline uint8_t why_empty(const Samples *samples, const Segment *segment,
                                const Limits *limits, int64_t at, int64_t begin_ns,
                                int64_t end_ns) {
    if (begin_ns < segment->first_ns && segment->below) return segment->below;
    if (end_ns > segment->last_ns && end_ns - 1 > segment->last_ns && segment->above)
        return segment->above;
    int has_both = at > segment->begin && at < segment->end;
    if (has_both && apart(samples->t_ns[at], samples->t_ns[at - 1]) > limits->max_gap_ns)
        return GAP;
    return MISSING;
}

/* Samples in [begins, ends) of each of `count` instants, in any order. Gives how many have none. */
int64_t find_windows(const Samples *samples, const Limits *limits, const int64_t *instants,
                     const int64_t *begins, const int64_t *ends, int64_t count,
                     const Windows *windows) {
    Windows out = *windows;
    Segment segment = segment_of(samples, count ? instants[0] : 0);
    int64_t first = segment.begin, past = segment.begin, unknown = 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t instant = instants[i];
        if (!is_in(&segment, instant)) {
            segment = segment_of(samples, instant);
            first = past = segment.begin;
        }
        first = rank_from(samples->t_ns, segment.begin, segment.end, first, begins[i], 0);
        past = rank_from(samples->t_ns, segment.begin, segment.end, past, ends[i], 0);
        if (past < first) past = first;
        out.first[i] = first, out.past[i] = past;
        out.t_ns[i] = 0, out.distance_ns[i] = 0;
        if (past == first) {
            unknown++;
            out.state[i] = why_empty(samples, &segment, limits, first, begins[i], ends[i]);
            continue;
        }
        int64_t t_ns = samples->t_ns[past - 1];
        int is_past = t_ns <= instant;
        uint64_t away = is_past ? apart(instant, t_ns) : apart(t_ns, instant);
        int is_near = away <= limits->tolerance_ns && (!is_past || away <= limits->max_age_ns);
        out.t_ns[i] = t_ns;
        out.distance_ns[i] = distance(t_ns, instant);
        out.state[i] = is_near ? OK : STALE;
    }
    return unknown;
}

/* Sums, least and greatest of windows that move forward only. What lies before `turn` is summed up
   backwards once (`rest[i]` holds i..turn), what comes behind it as it comes: each value is met
   twice, however wide the windows are, and nothing is ever subtracted. A value that is not a number
   is none; a window without any gives `none`. */
#define SLIDE(type, join, joined) \
    int64_t turn = 0, fed = 0; \
    type front = none; \
    for (int64_t i = 0; i < count; i++) { \
        int64_t begin = first[i], end = past[i]; \
        out[i] = none; \
        if (end <= begin) continue; \
        if (begin >= turn) { \
            type sum = none; \
            for (int64_t at = end - 1; at >= begin; at--) { \
                sum = join(sum, values[at]); \
                rest[at] = sum; \
            } \
            turn = fed = end; \
            front = none; \
        } \
        for (; fed < end; fed++) front = join(front, values[fed]); \
        out[i] = joined(rest[begin], front); \
    }

static inline double added(double sum, double value) { return isnan(value) ? sum : sum + value; }
static inline double both(double sum, double other) { return sum + other; }
static inline double lesser(double least, double value) { return value < least ? value : least; }
static inline double greater(double most, double value) { return value > most ? value : most; }
static inline int64_t lesser_integer(int64_t least, int64_t value) {
    return value < least ? value : least;
}
static inline int64_t greater_integer(int64_t most, int64_t value) {
    return value > most ? value : most;
}

enum { SUM, LEAST, MOST };

void slide_numbers(int32_t what, const double *values, const int64_t *first, const int64_t *past,
                   int64_t count, double *rest, double *out) {
    double none = what == SUM ? 0 : what == LEAST ? (double)INFINITY : -(double)INFINITY;
    if (what == SUM) {
        SLIDE(double, added, both)
    } else if (what == LEAST) {
        SLIDE(double, lesser, lesser)
    } else {
        SLIDE(double, greater, greater)
    }
}

void slide_integers(int32_t what, const int64_t *values, const int64_t *first,
                    const int64_t *past, int64_t count, int64_t *rest, int64_t *out) {
    int64_t none = what == LEAST ? INT64_MAX : INT64_MIN;
    if (what == LEAST) {
        SLIDE(int64_t, lesser_integer, lesser_integer)
    } else {
        SLIDE(int64_t, greater_integer, greater_integer)
    }
}
