/* Values between two samples: on a line, on a sphere, on a cubic. `left` names the first of the two,
   `share` how much of the way to the next it is; 0 is the sample itself, to the last bit. */
#include <math.h>
#include <stdint.h>

enum { BLOCK = 64, LINE_BLOCK = 1024, HALVINGS = 3 };

static inline double shorter(double step, double period) {
    return period > 0 ? step - period * rint(step / period) : step;
}

static void line(const double *values, double period, const int64_t *left, const double *share,
                 int64_t count, double *out) {
    if (period > 0) {
        for (int64_t i = 0; i < count; i++) {
            double from = values[left[i]];
            double step = shorter(values[left[i] + (share[i] > 0)] - from, period);
            out[i] = shorter(share[i] > 0 ? from + share[i] * step : from, period);
        }
        return;
    }
    for (int64_t i = 0; i < count; i++) {
        double from = values[left[i]], to = values[left[i] + (share[i] > 0)];
        double value = from + share[i] * (to - from);
        out[i] = share[i] > 0 ? value : from;
    }
}

/* All columns of a stream, a block of rows at a time, so that their places are read once. */
void linear_columns(const double *const *columns, const double *periods, int64_t column_count,
                    const int64_t *left, const double *share, int64_t count, double *const *out) {
    for (int64_t row = 0; row < count; row += LINE_BLOCK) {
        int64_t rows = count - row < LINE_BLOCK ? count - row : LINE_BLOCK;
        for (int64_t column = 0; column < column_count; column++)
            line(columns[column], periods[column], left + row, share + row, rows,
                 out[column] + row);
    }
}

typedef struct {
    double from[4][BLOCK], to[4][BLOCK], share[BLOCK], less_one[BLOCK];
} Rotations;

/* Unit quaternions; one that is none (all zero, not a number) becomes not a number. */
static inline void normalise(double quaternion[4][BLOCK]) {
    for (int i = 0; i < BLOCK; i++) {
        double square = quaternion[0][i] * quaternion[0][i] + quaternion[1][i] * quaternion[1][i] +
                        quaternion[2][i] * quaternion[2][i] + quaternion[3][i] * quaternion[3][i];
        double scale = square > 1e-30 && square < 1e30 ? 1 / sqrt(square) : (double)NAN;
        for (int axis = 0; axis < 4; axis++) quaternion[axis][i] *= scale;
    }
}

/* The second of two that mean the same rotation with either sign is the one on this side. The cosine
   less one comes from their difference, for where they are close the cosine has lost it. */
static inline void take_the_shorter_way(Rotations *all) {
    for (int i = 0; i < BLOCK; i++) {
        double cosine = 0, square = 0;
        for (int axis = 0; axis < 4; axis++) cosine += all->from[axis][i] * all->to[axis][i];
        double sign = cosine < 0 ? -1 : 1;
        for (int axis = 0; axis < 4; axis++) {
            all->to[axis][i] *= sign;
            double difference = all->to[axis][i] - all->from[axis][i];
            square += difference * difference;
        }
        all->less_one[i] = -square / 2;
    }
}

/* sin(share × angle) / sin(angle) as a series in cos(angle) − 1, down to −0.1 exact to the last bits.
   Source: D. Eberly, A Fast and Accurate Algorithm for Computing SLERP, 2011. */
static inline double weight(double share, double less_one) {
    double square = share * share, sum = 1;
#define TERM(k) sum = 1 + (square * (1.0 / (k * (2 * k + 1))) - k / (2.0 * k + 1)) * less_one * sum
    TERM(12), TERM(11), TERM(10), TERM(9), TERM(8), TERM(7);
    TERM(6), TERM(5), TERM(4), TERM(3), TERM(2), TERM(1);
#undef TERM
    return share * sum;
}

/* Halve the angle, which is 90° at most, until the series holds. */
static void halve(Rotations *all, int i) {
    for (int step = 0; step < HALVINGS && all->less_one[i] < -0.1; step++) {
        double middle[4], square = 0, difference = 0;
        for (int axis = 0; axis < 4; axis++) {
            middle[axis] = all->from[axis][i] + all->to[axis][i];
            square += middle[axis] * middle[axis];
        }
        int is_first = all->share[i] < 0.5;
        for (int axis = 0; axis < 4; axis++) {
            middle[axis] /= sqrt(square);
            double kept = is_first ? all->from[axis][i] : all->to[axis][i];
            (is_first ? all->to : all->from)[axis][i] = middle[axis];
            difference += (middle[axis] - kept) * (middle[axis] - kept);
        }
        all->share[i] = is_first ? 2 * all->share[i] : 2 * all->share[i] - 1;
        all->less_one[i] = -difference / 2;
    }
}

/* Quaternions x, y, z, w on the shorter arc; not a number where one of the two is no rotation. */
void slerp(const double *const *axes, const int64_t *left, const double *share, int64_t count,
           double *const *out) {
    Rotations all;
    for (int64_t row = 0; row < count; row += BLOCK) {
        int rows = count - row < BLOCK ? (int)(count - row) : BLOCK;
        for (int i = 0; i < BLOCK; i++) {
            int64_t at = row + (i < rows ? i : rows - 1);
            all.share[i] = share[at];
            for (int axis = 0; axis < 4; axis++) {
                all.from[axis][i] = axes[axis][left[at]];
                all.to[axis][i] = axes[axis][left[at] + (share[at] > 0)];
            }
        }
        normalise(all.from);
        normalise(all.to);
        take_the_shorter_way(&all);
        for (int i = 0; i < BLOCK; i++)
            if (all.less_one[i] < -0.1) halve(&all, i);
        double rest[BLOCK], taken[BLOCK];
        for (int i = 0; i < BLOCK; i++) {
            rest[i] = weight(1 - all.share[i], all.less_one[i]);
            taken[i] = weight(all.share[i], all.less_one[i]);
        }
        for (int axis = 0; axis < 4; axis++)
            for (int i = 0; i < rows; i++)
                out[axis][row + i] = rest[i] * all.from[axis][i] + taken[i] * all.to[axis][i];
    }
}

typedef struct {
    const int64_t *t_ns;
    const double *values;
    const double *velocities; /* per second; NULL where they are to be had from the neighbours */
    const uint8_t *breaks;    /* whether a sample has nothing to do with the one before */
    int64_t count;
    double period;
} Curve;

static inline double seconds(const Curve *curve, int64_t from) {
    return (double)((uint64_t)curve->t_ns[from + 1] - (uint64_t)curve->t_ns[from]) * 1e-9;
}

static inline double slope(const Curve *curve, int64_t from) {
    double step = shorter(curve->values[from + 1] - curve->values[from], curve->period);
    return step / seconds(curve, from);
}

/* Slopes at both ends of the piece from `at` on: of the parabola through the sample and its two
   neighbours; at an end without one, what makes the piece itself a parabola, or a line. */
static inline void slopes(const Curve *curve, int64_t at, double *begin, double *end) {
    double here = slope(curve, at), width = seconds(curve, at);
    *begin = *end = (double)NAN;
    if (at > 0 && !curve->breaks[at]) {
        double other = seconds(curve, at - 1);
        *begin = (slope(curve, at - 1) * width + here * other) / (width + other);
    }
    if (at + 2 < curve->count && !curve->breaks[at + 2]) {
        double other = seconds(curve, at + 1);
        *end = (here * other + slope(curve, at + 1) * width) / (width + other);
    }
    if (isnan(*begin)) *begin = isnan(*end) ? here : 2 * here - *end;
    if (isnan(*end)) *end = 2 * here - *begin;
}

/* Cubics that have the given slope at each sample, so that the value and its change are steady. */
void hermite(const Curve *curve, const int64_t *left, const double *share, int64_t count,
             double *out) {
    for (int64_t i = 0; i < count; i++) {
        int64_t at = left[i];
        double s = share[i], value = curve->values[at];
        if (s > 0) {
            double begin, end, rest = 1 - s;
            if (curve->velocities)
                begin = curve->velocities[at], end = curve->velocities[at + 1];
            else
                slopes(curve, at, &begin, &end);
            double step = shorter(curve->values[at + 1] - value, curve->period);
            value += s * s * (1 + 2 * rest) * step +
                     s * rest * (rest * begin - s * end) * seconds(curve, at);
        }
        out[i] = shorter(value, curve->period);
    }
}
