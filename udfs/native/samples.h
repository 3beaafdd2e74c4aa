/* Samples in time order, cut by boundaries into segments that have nothing to do with each other. */
#ifndef SAMPLES_H
#define SAMPLES_H

#include <stdint.h>

/* Codes of udfs/sync/states.py. */
enum { OK, GAP, STALE, MISSING };

#define NOBODY (-1)

/* For what asks in its loops which method it serves: a copy for each, that does not ask. */
#define FOR_EACH static inline __attribute__((always_inline))

typedef struct {
    const int64_t *t_ns; /* ascending */
    int64_t count;
    const int64_t *boundaries; /* ascending, none of them INT64_MIN */
    const uint8_t *reasons;    /* of each boundary: the state that it makes */
    int64_t boundary_count;
} Samples;

typedef struct {
    uint64_t tolerance_ns; /* between an instant and its sample */
    uint64_t max_age_ns;   /* the same, of a sample that is not later */
    uint64_t max_gap_ns;   /* between the two samples around an instant */
    uint64_t edge_ns;      /* how long a sample is held that has nothing to interpolate with */
    int64_t hole_is_gap;   /* whether no sample serves in a wider hole, however near */
} Limits;

/* What lies between two boundaries: instants first_ns..last_ns, both inclusive, and the samples
   begin..end, half-open. `below`, `above`: what to say of samples that lie beyond; OK for none. */
typedef struct {
    int64_t first_ns, last_ns;
    int64_t begin, end;
    uint8_t below, above;
} Segment;

/* Nanoseconds from `earlier` to `later`, which fit an unsigned word whatever the two are. */
static inline uint64_t apart(int64_t later, int64_t earlier) {
    return (uint64_t)later - (uint64_t)earlier;
}

/* t_ns minus the instant, held at the ends of what a word holds. */
static inline int64_t distance(int64_t t_ns, int64_t instant) {
    int64_t difference;
    if (!__builtin_sub_overflow(t_ns, instant, &difference)) return difference;
    return t_ns > instant ? INT64_MAX : INT64_MIN;
}

FOR_EACH int is_before(int64_t t_ns, int64_t instant, int with_equal) {
    return with_equal ? t_ns <= instant : t_ns < instant;
}

/* Where in [low, high) the first is that does not lie before the instant. */
FOR_EACH int64_t bisect(const int64_t *t_ns, int64_t low, int64_t high, int64_t instant,
                             int with_equal) {
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (is_before(t_ns[middle], instant, with_equal))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The same, looked for from `at` of [low, high] on: a few steps where the instants ascend, and never
   more than twice the steps of a bisection, however far the way or whatever the order. */
FOR_EACH int64_t rank_from(const int64_t *t_ns, int64_t low, int64_t high, int64_t at,
                                int64_t instant, int with_equal) {
    if (at > low && !is_before(t_ns[at - 1], instant, with_equal))
        return bisect(t_ns, low, at - 1, instant, with_equal);
    for (int i = 0; i < 8; i++) {
        if (at >= high || !is_before(t_ns[at], instant, with_equal)) return at;
        at++;
    }
    int64_t step = 8;
    while (step < high - at && is_before(t_ns[at + step], instant, with_equal)) {
        at += step;
        step *= 2;
    }
    return bisect(t_ns, at, step < high - at ? at + step : high, instant, with_equal);
}

/* The segment that holds an instant; one at a boundary belongs to what begins there. */
static inline Segment segment_of(const Samples *samples, int64_t instant) {
    int64_t here = bisect(samples->boundaries, 0, samples->boundary_count, instant, 1);
    Segment found = {INT64_MIN, INT64_MAX, 0, samples->count, OK, OK};
    if (here > 0) {
        found.first_ns = samples->boundaries[here - 1];
        found.begin = bisect(samples->t_ns, 0, samples->count, found.first_ns, 0);
        if (found.begin > 0) found.below = samples->reasons[here - 1];
    }
    if (here < samples->boundary_count) {
        int64_t next = samples->boundaries[here];
        found.last_ns = next - 1;
        found.end = bisect(samples->t_ns, found.begin, samples->count, next, 0);
        if (found.end < samples->count) found.above = samples->reasons[here];
    }
    return found;
}

static inline int is_in(const Segment *segment, int64_t instant) {
    return segment->first_ns <= instant && instant <= segment->last_ns;
}

#endif
