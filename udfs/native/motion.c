/* Points that were seen one after the other from a vehicle that moved, brought to one instant; and the
   other way, what stands still as it is seen at instants of its own.

   Between two poses the vehicle keeps its speed and its turn rate, as one that drives a circle does:
   pose(s) = pose · exp(s × twist). Its rotation is that of slerp. With coefficients that depend on the
   share s alone, a point costs three cross products.
   Source: J. Solà, A micro Lie theory for state estimation in robotics, 2018, (172)-(174). */
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "samples.h"

enum { PLACES = 128, FEW_TERMS = 4, MANY_TERMS = 11 };
#define TURN_OF_FEW 0.25 /* radians squared: below it four terms are exact to 1e-12 */
#define WHOLE 4503599627370496.0
#define WHOLE_BITS 0x4330000000000000u /* the same number, whose last bits count ones */

typedef struct {
    double rotation[3][3], translation[3];
} Rigid;

typedef struct {
    Samples samples;
    const double *positions; /* (N, 3) metres, in a frame that stands still */
    const double *rotations; /* (N, 4) unit quaternions x, y, z, w */
    Rigid mount;             /* base_from_sensor */
    uint64_t max_gap_ns;     /* below 2^52 */
} Motion;

typedef struct {
    Rigid frame; /* where points are given at the reference: from the sensor's frame */
    int64_t at_ns;
    int64_t count;
    const int64_t *t_ns;
    const float *from[3];
    float *to[3];
    uint8_t *states;
    int64_t is_away; /* from the reference to the instants, not to the reference */
} Points;

/* What the sensor did from a pose to the next, seen from the reference. */
typedef struct {
    int64_t begin;                /* the pose; NOBODY where nothing is known yet */
    uint8_t is_known, is_passable; /* whether its beginning, and what is behind it, can be used */
    double per_ns, turn[3], square, move[3], once[3], twice[3];
    Rigid place; /* of the beginning: frame_from_sensor, or the way back */
} Piece;

static void cross(const double a[3], const double b[3], double out[3]) {
    out[0] = a[1] * b[2] - a[2] * b[1];
    out[1] = a[2] * b[0] - a[0] * b[2];
    out[2] = a[0] * b[1] - a[1] * b[0];
}

static void rotate(const double matrix[3][3], const double x[3], double out[3]) {
    for (int row = 0; row < 3; row++)
        out[row] = matrix[row][0] * x[0] + matrix[row][1] * x[1] + matrix[row][2] * x[2];
}

static Rigid product(const Rigid *a, const Rigid *b) {
    Rigid found;
    for (int row = 0; row < 3; row++)
        for (int column = 0; column < 3; column++) {
            double sum = 0;
            for (int k = 0; k < 3; k++) sum += a->rotation[row][k] * b->rotation[k][column];
            found.rotation[row][column] = sum;
        }
    rotate(a->rotation, b->translation, found.translation);
    for (int row = 0; row < 3; row++) found.translation[row] += a->translation[row];
    return found;
}

/* a⁻¹ · b. The positions are subtracted first: they may be millions of metres from where they count. */
static Rigid relative(const Rigid *a, const Rigid *b) {
    Rigid back = {.translation = {0, 0, 0}}, moved = *b;
    for (int row = 0; row < 3; row++) {
        moved.translation[row] -= a->translation[row];
        for (int column = 0; column < 3; column++)
            back.rotation[row][column] = a->rotation[column][row];
    }
    return product(&back, &moved);
}

static Rigid inverse(const Rigid *a) {
    static const Rigid nothing = {{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}, {0, 0, 0}};
    return relative(a, &nothing);
}

/* world_from_sensor at a pose. */
static Rigid sensor_at(const Motion *motion, int64_t pose) {
    const double *q = motion->rotations + 4 * pose;
    double x = q[0], y = q[1], z = q[2], w = q[3];
    Rigid base = {
        {{1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)},
         {2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)},
         {2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)}},
        {0, 0, 0},
    };
    memcpy(base.translation, motion->positions + 3 * pose, sizeof base.translation);
    return product(&base, &motion->mount);
}

/* Rotation vector of the vehicle from a pose to the next, on the shorter way. */
static void turn_between(const double *from, const double *to, double out[3]) {
    double v[3], w = 0, length;
    for (int axis = 0; axis < 4; axis++) w += from[axis] * to[axis];
    cross(to, from, v);
    for (int axis = 0; axis < 3; axis++) v[axis] += from[3] * to[axis] - to[3] * from[axis];
    double sign = w < 0 ? -1 : 1;
    length = sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]);
    double scale = length > 1e-9 ? 2 * atan2(length, sign * w) / length : 2;
    for (int axis = 0; axis < 3; axis++) out[axis] = sign * scale * v[axis];
}

/* The twist whose whole is `step`: V(turn)⁻¹ · translation. */
static void set_twist(Piece *piece, const double turn[3], const double translation[3]) {
    double bent[3], twice_bent[3], half;
    memcpy(piece->turn, turn, sizeof piece->turn);
    double square = turn[0] * turn[0] + turn[1] * turn[1] + turn[2] * turn[2];
    half = sqrt(square) / 2;
    double share = square < 1e-3 ? 1.0 / 12 + square * (1.0 / 720 + square / 30240)
                                 : (1 - half / tan(half)) / square;
    cross(turn, translation, bent);
    cross(turn, bent, twice_bent);
    for (int axis = 0; axis < 3; axis++)
        piece->move[axis] = translation[axis] - bent[axis] / 2 + share * twice_bent[axis];
    cross(turn, piece->move, piece->once);
    cross(turn, piece->once, piece->twice);
    piece->square = square;
}

/* The first boundary in (from, to], or NOBODY. */
static int64_t boundary_in(const Samples *samples, int64_t from, int64_t to) {
    int64_t first = bisect(samples->boundaries, 0, samples->boundary_count, from, 1);
    return first < samples->boundary_count && samples->boundaries[first] <= to ? first : NOBODY;
}

static int is_apart(const Samples *samples, int64_t a, int64_t b) {
    return boundary_in(samples, a < b ? a : b, a < b ? b : a) != NOBODY;
}

/* Whether the vehicle is known between a pose and the next. */
static int is_steady(const Motion *motion, int64_t pose) {
    const Samples *samples = &motion->samples;
    if (pose < 0 || pose + 1 >= samples->count) return 0;
    int64_t from = samples->t_ns[pose], to = samples->t_ns[pose + 1];
    return to > from && apart(to, from) <= motion->max_gap_ns &&
           boundary_in(samples, from, to) == NOBODY;
}

/* Why an instant behind a pose (NOBODY: before all of them) can't be had from the reference. */
static uint8_t reason_of(const Samples *samples, int64_t at_ns, int64_t pose, int64_t t_ns) {
    int64_t found = boundary_in(samples, at_ns < t_ns ? at_ns : t_ns, at_ns < t_ns ? t_ns : at_ns);
    int is_inside = pose >= 0 && pose + 1 < samples->count;
    if (found == NOBODY && is_inside)
        found = boundary_in(samples, samples->t_ns[pose], samples->t_ns[pose + 1]);
    if (found != NOBODY) return samples->reasons[found];
    return is_inside ? GAP : samples->count ? STALE : MISSING;
}

static void prepare(const Motion *motion, const Points *points, const Rigid *reference,
                    int64_t pose, Piece *piece) {
    const Samples *samples = &motion->samples;
    Rigid here = sensor_at(motion, pose);
    Rigid place = relative(reference, &here);
    memset(piece, 0, sizeof *piece);
    piece->begin = pose;
    piece->is_known = !is_apart(samples, points->at_ns, samples->t_ns[pose]);
    piece->is_passable = piece->is_known && is_steady(motion, pose);
    place = product(&points->frame, &place);
    piece->place = points->is_away ? inverse(&place) : place;
    if (!piece->is_passable) return;
    double base_turn[3], turn[3];
    Rigid next = sensor_at(motion, pose + 1), step = relative(&here, &next);
    turn_between(motion->rotations + 4 * pose, motion->rotations + 4 * (pose + 1), base_turn);
    for (int axis = 0; axis < 3; axis++) {
        turn[axis] = 0;
        for (int k = 0; k < 3; k++) turn[axis] += motion->mount.rotation[k][axis] * base_turn[k];
    }
    set_twist(piece, turn, step.translation);
    piece->per_ns = 1.0 / (double)apart(samples->t_ns[pose + 1], samples->t_ns[pose]);
}

typedef struct {
    double turning, bending, drifting;
} Shares;

/* sin(sθ)/θ, (1 − cos(sθ))/θ² and (sθ − sin(sθ))/θ³ as series. */
FOR_EACH Shares shares_of(double s, double square, int terms) {
    double angle = square * s * s, bending = 1, drifting = 1;
    for (int k = terms; k > 0; k--) {
        bending = 1 - angle * bending * (1.0 / ((2 * k + 1) * (2 * k + 2)));
        drifting = 1 - angle * drifting * (1.0 / ((2 * k + 2) * (2 * k + 3)));
    }
    bending *= s * s / 2;
    drifting *= s * s * s / 6;
    return (Shares){s - square * drifting, bending, drifting};
}

/* How far along a piece: whole numbers below 2^52 become doubles without an instruction for it. */
FOR_EACH double share_of(int64_t t_ns, int64_t begin_ns, double per_ns) {
    uint64_t bits = apart(t_ns, begin_ns) | WHOLE_BITS;
    double number;
    memcpy(&number, &bits, sizeof number);
    return (number - WHOLE) * per_ns;
}

FOR_EACH void move_along(const Piece *given, const Points *points, int64_t begin_ns, int64_t row,
                         int64_t end, int is_away, int terms) {
    const Piece piece = *given;
    const Rigid place = piece.place;
    const double *w = piece.turn, *v = piece.move;
    const int64_t *restrict t_ns = points->t_ns;
    const float *restrict from_x = points->from[0], *restrict from_y = points->from[1],
                *restrict from_z = points->from[2];
    float *restrict to_x = points->to[0], *restrict to_y = points->to[1],
          *restrict to_z = points->to[2];
    for (int64_t i = row; i < end; i++) {
        double s = share_of(t_ns[i], begin_ns, piece.per_ns);
        Shares by = shares_of(s, piece.square, terms);
        double x[3] = {from_x[i], from_y[i], from_z[i]}, y[3], u[3], d[3];
        if (is_away) {
            rotate(place.rotation, x, y);
            for (int axis = 0; axis < 3; axis++)
                y[axis] += place.translation[axis] - s * v[axis] - by.bending * piece.once[axis] -
                           by.drifting * piece.twice[axis];
            cross(w, y, u);
            cross(w, u, d);
            for (int axis = 0; axis < 3; axis++)
                y[axis] += by.bending * d[axis] - by.turning * u[axis];
        } else {
            cross(w, x, u);
            double sum[3] = {u[0] + v[0], u[1] + v[1], u[2] + v[2]};
            cross(w, sum, d);
            for (int axis = 0; axis < 3; axis++)
                x[axis] += s * v[axis] + by.turning * u[axis] + by.bending * d[axis] +
                           by.drifting * piece.twice[axis];
            rotate(place.rotation, x, y);
            for (int axis = 0; axis < 3; axis++) y[axis] += place.translation[axis];
        }
        to_x[i] = (float)y[0];
        to_y[i] = (float)y[1];
        to_z[i] = (float)y[2];
    }
}

static void move_run(const Piece *piece, const Points *points, int64_t begin_ns, int64_t row,
                     int64_t end) {
    int is_little = piece->square < TURN_OF_FEW;
    if (points->is_away && is_little)
        move_along(piece, points, begin_ns, row, end, 1, FEW_TERMS);
    else if (points->is_away)
        move_along(piece, points, begin_ns, row, end, 1, MANY_TERMS);
    else if (is_little)
        move_along(piece, points, begin_ns, row, end, 0, FEW_TERMS);
    else
        move_along(piece, points, begin_ns, row, end, 0, MANY_TERMS);
    memset(points->states + row, OK, (size_t)(end - row));
}

static void lose(const Points *points, int64_t row, uint8_t reason) {
    for (int axis = 0; axis < 3; axis++) points->to[axis][row] = NAN;
    points->states[row] = reason;
}

/* Points before the first pose, behind the last, in a hole or beyond a boundary: one by one. */
static int64_t move_singly(const Motion *motion, const Points *points, const Piece *piece,
                           int64_t pose, int64_t row, int64_t end) {
    const Samples *samples = &motion->samples;
    int64_t lost = 0;
    for (; row < end; row++) {
        int64_t t_ns = points->t_ns[row];
        if (piece && piece->is_known && t_ns == samples->t_ns[pose]) {
            move_run(piece, points, t_ns, row, row + 1);
            continue;
        }
        lose(points, row, reason_of(samples, points->at_ns, pose, t_ns));
        lost++;
    }
    return lost;
}

/* world_from_sensor at the reference; the reason where it is not known. */
static uint8_t find_reference(const Motion *motion, const Points *points, Rigid *found) {
    const Samples *samples = &motion->samples;
    int64_t at_ns = points->at_ns;
    int64_t pose = bisect(samples->t_ns, 0, samples->count, at_ns, 1) - 1;
    int is_exact = pose >= 0 && samples->t_ns[pose] == at_ns;
    if (!is_exact && !is_steady(motion, pose)) return reason_of(samples, at_ns, pose, at_ns);
    Rigid here = sensor_at(motion, pose);
    if (is_exact) {
        *found = here;
        return OK;
    }
    Piece piece;
    Points standing = {.frame = {{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}, {0, 0, 0}}, .at_ns = at_ns};
    prepare(motion, &standing, &here, pose, &piece);
    double s = (double)apart(at_ns, samples->t_ns[pose]) * piece.per_ns;
    Shares by = shares_of(s, piece.square, MANY_TERMS);
    Rigid step;
    for (int column = 0; column < 3; column++) {
        double unit[3] = {column == 0, column == 1, column == 2}, u[3], d[3];
        cross(piece.turn, unit, u);
        cross(piece.turn, u, d);
        for (int row = 0; row < 3; row++)
            step.rotation[row][column] = unit[row] + by.turning * u[row] + by.bending * d[row];
        step.translation[column] = s * piece.move[column] + by.bending * piece.once[column] +
                                   by.drifting * piece.twice[column];
    }
    *found = product(&here, &step);
    return OK;
}

/* Give how many points have no place; for them it is not a number, and their state is the reason. */
int64_t move_points(const Motion *motion, const Points *points) {
    const Samples *samples = &motion->samples;
    Rigid reference;
    uint8_t reason = find_reference(motion, points, &reference);
    if (reason != OK) {
        for (int64_t row = 0; row < points->count; row++) lose(points, row, reason);
        return points->count;
    }
    Piece known[PLACES]; /* what is likely to be asked again: a sweep may go by rings */
    for (int place = 0; place < PLACES; place++) known[place].begin = NOBODY;
    int64_t lost = 0, behind = 0;
    for (int64_t row = 0, end; row < points->count; row = end) {
        behind = rank_from(samples->t_ns, 0, samples->count, behind, points->t_ns[row], 1);
        int64_t pose = behind - 1;
        int64_t begin_ns = pose >= 0 ? samples->t_ns[pose] : INT64_MIN;
        int64_t last_ns = behind < samples->count ? samples->t_ns[behind] - 1 : INT64_MAX;
        end = row + 1;
        while (end < points->count && points->t_ns[end] >= begin_ns && points->t_ns[end] <= last_ns)
            end++;
        Piece *piece = pose >= 0 ? &known[pose % PLACES] : NULL;
        if (piece && piece->begin != pose) prepare(motion, points, &reference, pose, piece);
        if (piece && piece->is_passable)
            move_run(piece, points, begin_ns, row, end);
        else
            lost += move_singly(motion, points, piece, pose, row, end);
    }
    return lost;
}
