/* Ranks of a block of instants among samples: without a branch to be guessed wrong where both are
   about as dense, for a wrong guess costs as much as ten steps. */
#ifndef RANKS_H
#define RANKS_H

#include <string.h>

#include "samples.h"

enum { LANES = 4, LANE = 64, RANK_BLOCK = LANES * LANE, DENSE = 4 };

/* Four stretches of the block at a time, so that one's steps do not wait for another's. One more
   instant behind each stretch lies before every sample, and ends it. */
FOR_EACH void merge_ranks(const int64_t *t_ns, int64_t at, int64_t high,
                               const int64_t *instants, int with_equal, int64_t *ranks) {
    int64_t next[LANES][LANE + 1], found[LANES][LANE + 1], cursor[LANES], row[LANES] = {0};
    int64_t steps = 0;
    for (int lane = 0; lane < LANES; lane++) {
        memcpy(next[lane], instants + lane * LANE, sizeof(int64_t) * LANE);
        next[lane][LANE] = INT64_MIN;
        cursor[lane] = lane ? bisect(t_ns, at, high, instants[lane * LANE], with_equal) : at;
    }
    for (int lane = 0; lane < LANES; lane++) {
        int64_t end = lane + 1 < LANES ? cursor[lane + 1] : high;
        if (end - cursor[lane] > steps) steps = end - cursor[lane];
    }
    for (int64_t step = 0; step < steps + LANE; step++)
        for (int lane = 0; lane < LANES; lane++) {
            int is_past = is_before(t_ns[cursor[lane]], next[lane][row[lane]], with_equal);
            cursor[lane] += is_past;
            found[lane][row[lane]] = cursor[lane];
            row[lane] += !is_past & (row[lane] < LANE);
        }
    for (int lane = 0; lane < LANES; lane++)
        memcpy(ranks + lane * LANE, found[lane], sizeof(int64_t) * LANE);
}

/* Ranks of `rows` instants of one segment, in any order, looked for from `at` on. Gives whether each
   of them lies between two samples of the segment. */
FOR_EACH int block_ranks(const int64_t *t_ns, const Segment *segment, int64_t at,
                              const int64_t *instants, int rows, int ascends, int with_equal,
                              int64_t *ranks) {
    int64_t begin = segment->begin, end = segment->end;
    if (ascends && rows == RANK_BLOCK) {
        at = rank_from(t_ns, begin, end, at, instants[0], with_equal);
        int64_t high = rank_from(t_ns, begin, end, at, instants[rows - 1], with_equal);
        if (high < end && high - at <= DENSE * rows) {
            merge_ranks(t_ns, at, high, instants, with_equal, ranks);
            return at > begin;
        }
    }
    int is_inside = 1;
    for (int i = 0; i < rows; i++) {
        at = rank_from(t_ns, begin, end, at, instants[i], with_equal);
        ranks[i] = at;
        is_inside &= at > begin && at < end;
    }
    return is_inside;
}

#endif
