/* What protobuf.c is told to do, and how values stand in the bytes of a message.

   Source: https://protobuf.dev/programming-guides/encoding */
#ifndef PROTOBUF_WIRE_H
#define PROTOBUF_WIRE_H

#include "rows.h"

enum { VARINT = 0, FIXED64 = 1, LENGTH = 2, GROUP = 3, GROUP_END = 4, FIXED32 = 5 };

typedef enum {
    INT32, UINT32, INT64, UINT64, SINT32, SINT64, BOOL, CLOSED_ENUM, FIXED_4, UNSIGNED_4, FIXED_8,
    UNSIGNED_8, STRING, BYTES, MESSAGE, GROUPED, INSTANT, MAP, LEFT
} Kind;

enum { MAX_TAG_BYTES = 5, MAX_SKIPPED_GROUPS = 16 };
static const uint64_t STOPS = 0x8080808080808080u;

/* A field, as `FIELD` of protobuf_program.py. */
typedef struct {
    uint64_t tag;  /* as its bytes stand in a little-endian word */
    uint64_t mask; /* of those bytes */
    uint32_t number;
    int32_t tag_bytes;
    int32_t kind;
    int32_t wire; /* of one value */
    int32_t is_repeated;
    int32_t column;
    int32_t message; /* of a message: its fields; of a map: which map */
    int32_t choice;  /* the oneof that it belongs to, or -1 */
    int32_t values;  /* of a closed enumeration: its values */
    int32_t value_count;
    int32_t is_plain; /* one number, of any value, for itself: nothing else is to be asked */
} Field;

/* The fields of a message type at one place, by number, and behind them two that match nothing. */
typedef struct {
    int32_t first;
    int32_t count;
    int32_t table; /* where the fields of low numbers are found by number */
    int32_t table_size;
    int32_t is_open; /* numbers that are not its own may belong to extensions */
} Message;

/* Which field of a oneof a row has. */
typedef struct {
    int64_t row;
    int64_t column;
} Choice;

/* A map and the entries of a row that it did not take in yet: keys go in order, each once. */
typedef struct {
    Growing entries;
    int64_t row;
    int32_t column;
    int32_t message;
} Map;

typedef struct {
    const uint8_t *at;
    const uint8_t *end;
    const uint8_t *text; /* of a key that is a text */
    uint64_t key;        /* of a number, so that it sorts; of a text its length */
    int64_t ordinal;
} Entry;

typedef struct {
    const Message *messages;
    const Field *fields;
    const int32_t *tables;
    const int32_t *values;
    Column *columns;
    Choice *choices;
    Map *maps;
    int32_t column_count;
    int32_t map_count;
} Program;

typedef struct {
    Program program;
    const uint8_t *limit; /* end of the arena */
    int status;
} Walk;

#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* Readers return where they stand behind what they have read, or NULL: the message is left. */
typedef const uint8_t *Position;

/* Numbers */

static inline uint64_t load_8(Position at) {
    uint64_t word;
    memcpy(&word, at, 8);
    return word;
}

static inline uint32_t load_4(Position at) {
    uint32_t word;
    memcpy(&word, at, 4);
    return word;
}

static inline Position slow_varint(Position at, Position end, uint64_t *value) {
    uint64_t found = 0;
    for (int i = 0; i < 10 && at < end; i++) {
        uint64_t byte = *at++;
        if (i == 9 && byte > 1) return NULL;
        found |= (byte & 0x7f) << (7 * i);
        if (byte < 0x80) {
            *value = found;
            return at;
        }
    }
    return NULL;
}

/* A varint of which the first byte says that there are more. */
static inline Position long_varint(const Walk *walk, Position at, Position end, uint64_t *value) {
    if (walk->limit - at < 8) return slow_varint(at, end, value);
    uint64_t word = load_8(at), stops = ~word & STOPS;
    if (!stops) return slow_varint(at, end, value);
    at += __builtin_ctzll(stops) / 8 + 1;
    word &= (stops ^ (stops - 1)) & ~STOPS;
    word = (word & 0x007f007f007f007fu) | (word & 0x7f007f007f007f00u) >> 1;
    word = (word & 0x00003fff00003fffu) | (word & 0x3fff00003fff0000u) >> 2;
    *value = (word & 0x0fffffffu) | (word & 0x0fffffff00000000u) >> 4;
    return at <= end ? at : NULL;
}

static inline Position read_varint(const Walk *walk, Position at, Position end, uint64_t *value) {
    if (at >= end) return NULL;
    if (*at >= 0x80) return long_varint(walk, at, end, value);
    *value = *at;
    return at + 1;
}

/* The bits of a number of any kind that stands at a position with its own wire type. */
static inline Position read_bits(const Walk *walk, int32_t wire, Position at, Position end,
                                 uint64_t *bits) {
    if (wire == VARINT) return read_varint(walk, at, end, bits);
    int64_t size = wire == FIXED64 ? 8 : 4;
    if (end - at < size) return NULL;
    *bits = size == 8 ? load_8(at) : load_4(at);
    return at + size;
}

static inline uint64_t unfold(uint64_t bits) { return bits >> 1 ^ (0 - (bits & 1)); }

static inline int is_value(const Walk *walk, const Field *field, uint32_t bits) {
    const int32_t *values = walk->program.values + field->values;
    for (int32_t i = 0; i < field->value_count; i++)
        if (values[i] == (int32_t)bits) return 1;
    return 0;
}

/* Where what stands behind a length begins; `*end` becomes its end. */
static inline Position read_span(const Walk *walk, Position at, Position *end) {
    uint64_t size;
    at = read_varint(walk, at, *end, &size);
    if (!at || size > (uint64_t)(*end - at)) return NULL;
    *end = at + size;
    return at;
}

/* Fields that are unknown */

static inline Position skip_value(const Walk *walk, uint32_t wire, Position at, Position end) {
    uint64_t bits;
    if (wire == VARINT || wire == FIXED64 || wire == FIXED32)
        return read_bits(walk, (int32_t)wire, at, end, &bits);
    if (wire != LENGTH) return NULL;
    Position inner = end;
    return read_span(walk, at, &inner) ? inner : NULL;
}

static inline Position read_tag(const Walk *walk, Position at, Position end, uint32_t *tag) {
    uint64_t bits;
    Position after = read_varint(walk, at, end, &bits);
    if (!after || after - at > MAX_TAG_BYTES || bits > UINT32_MAX || bits < 8) return NULL;
    *tag = (uint32_t)bits;
    return after;
}

static inline Position skip_field(const Walk *walk, uint32_t tag, Position at, Position end) {
    uint32_t open[MAX_SKIPPED_GROUPS];
    int depth = 0;
    for (;;) {
        uint32_t wire = tag & 7;
        if (wire == GROUP) {
            if (depth == MAX_SKIPPED_GROUPS) return NULL;
            open[depth++] = tag >> 3;
        } else if (wire == GROUP_END) {
            if (!depth || open[--depth] != tag >> 3) return NULL;
        } else {
            at = skip_value(walk, wire, at, end);
        }
        if (!at || !depth) return at;
        at = read_tag(walk, at, end, &tag);
        if (!at) return NULL;
    }
}

#endif
