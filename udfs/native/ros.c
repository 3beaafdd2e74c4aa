/* Reads one message type out of many messages, in one pass, into Arrow columns.
 *
 * The type comes as a program of 64-bit words, which udfs/encodings/walk.py makes. A level is a set
 * of rows: level 0 has a row for each message, each sequence of messages a level of its own. Every
 * column belongs to a level and is written by row number, so that a message that turns out to be
 * bad is undone by setting the row numbers back.
 *
 * Source: OMG CDR (formal/02-06-51), DDS-XTypes 1.3 7.4, http://wiki.ros.org/msg
 */
#include "growing.h"
#include "utf8.h"

typedef struct {
    uint8_t *data;    /* values, or the bytes that `offsets` cut */
    int64_t size;     /* bytes in use behind `offsets` */
    int64_t room;     /* bytes allocated for what `offsets` cut */
    int32_t *offsets; /* of lists, text and bytes: one more than rows */
    int64_t level;
    int64_t width;       /* bytes a row of what has no offsets, else 0 */
    int64_t has_offsets;
} Column;

typedef struct {
    int64_t rows;
    int64_t room;
    int64_t parent; /* the column whose offsets count its rows; -1 of level 0 */
} Level;

typedef struct {
    int64_t row;    /* of the messages given */
    int64_t fault;
    int64_t detail; /* bytes missing or left, or the length that can't be */
} Bad;

typedef struct {
    const uint8_t *base; /* of the message; alignment counts from here */
    int64_t limit;
    int64_t at;
    int64_t head; /* bytes of the payload before `base` */
    Column *columns;
    Level *levels;
    int64_t column_count;
    int64_t level_count;
    int64_t text_end; /* bytes that close a string and are not part of it */
    int64_t swap;
    int64_t detail;
} Reader;

enum { SOUND, SHORT, BAD_LENGTH, BAD_UTF8, BAD_UTF16, TRAILING, NO_HEADER, OTHER_HEADER };
enum { NO_MEMORY = -1, TOO_LARGE = -2, OUTSIDE = -3 };
enum { RUN, TEXT, NUMBERS, MANY };
enum {
    COPY1, COPY2, COPY4, COPY8, U1, U2, U4, U8, STAMP_IU, STAMP_UU, STAMP_II,
    SWAPPED = 16
};
enum { AHEAD = 6 };
enum { RUN_SIZES = 1, RUN_LEAVES = 9, RUN_HEAD = 10, LEAF_OFFSETS = 4, LEAF_WORDS = 12 };

static inline uint16_t get2(const uint8_t *from) { uint16_t v; memcpy(&v, from, 2); return v; }
static inline uint32_t get4(const uint8_t *from) { uint32_t v; memcpy(&v, from, 4); return v; }
static inline uint64_t get8(const uint8_t *from) { uint64_t v; memcpy(&v, from, 8); return v; }
static inline uint16_t swap2(const uint8_t *from) { return __builtin_bswap16(get2(from)); }
static inline uint32_t swap4(const uint8_t *from) { return __builtin_bswap32(get4(from)); }
static inline uint64_t swap8(const uint8_t *from) { return __builtin_bswap64(get8(from)); }

/* One number, from where it stands to its column; unsigned ones become the next wider type, and
 * 64 unsigned bits a decimal of 128. */
#define PUT(name, type, value) \
    static inline void name(uint8_t *to, const uint8_t *from) { \
        type v = (type)(value); \
        memcpy(to, &v, sizeof v); \
    }
#define STAMP(seconds, nanoseconds, one, other) \
    ((uint64_t)(int64_t)(seconds)one * 1000000000u + (uint64_t)(int64_t)(nanoseconds)other)
PUT(put_copy1, uint8_t, *from)
PUT(put_copy2, uint16_t, get2(from))
PUT(put_copy4, uint32_t, get4(from))
PUT(put_copy8, uint64_t, get8(from))
PUT(put_u1, int16_t, *from)
PUT(put_u2, int32_t, get2(from))
PUT(put_u4, int64_t, get4(from))
PUT(put_u8, unsigned __int128, get8(from))
PUT(put_stamp_iu, uint64_t, STAMP(int32_t, uint32_t, get4(from), get4(from + 4)))
PUT(put_stamp_uu, uint64_t, STAMP(uint32_t, uint32_t, get4(from), get4(from + 4)))
PUT(put_stamp_ii, uint64_t, STAMP(int32_t, int32_t, get4(from), get4(from + 4)))
PUT(swap_copy2, uint16_t, swap2(from))
PUT(swap_copy4, uint32_t, swap4(from))
PUT(swap_copy8, uint64_t, swap8(from))
PUT(swap_u2, int32_t, swap2(from))
PUT(swap_u4, int64_t, swap4(from))
PUT(swap_u8, unsigned __int128, swap8(from))
PUT(swap_stamp_iu, uint64_t, STAMP(int32_t, uint32_t, swap4(from), swap4(from + 4)))
PUT(swap_stamp_uu, uint64_t, STAMP(uint32_t, uint32_t, swap4(from), swap4(from + 4)))
PUT(swap_stamp_ii, uint64_t, STAMP(int32_t, int32_t, swap4(from), swap4(from + 4)))

#define BY_KIND(kind, DO) \
    switch (kind) { \
    case COPY1: case COPY1 + SWAPPED: DO(put_copy1, 1, 1) break; \
    case COPY2: DO(put_copy2, 2, 2) break; \
    case COPY4: DO(put_copy4, 4, 4) break; \
    case COPY8: DO(put_copy8, 8, 8) break; \
    case U1: case U1 + SWAPPED: DO(put_u1, 1, 2) break; \
    case U2: DO(put_u2, 2, 4) break; \
    case U4: DO(put_u4, 4, 8) break; \
    case U8: DO(put_u8, 8, 16) break; \
    case STAMP_IU: DO(put_stamp_iu, 8, 8) break; \
    case STAMP_UU: DO(put_stamp_uu, 8, 8) break; \
    case STAMP_II: DO(put_stamp_ii, 8, 8) break; \
    case COPY2 + SWAPPED: DO(swap_copy2, 2, 2) break; \
    case COPY4 + SWAPPED: DO(swap_copy4, 4, 4) break; \
    case COPY8 + SWAPPED: DO(swap_copy8, 8, 8) break; \
    case U2 + SWAPPED: DO(swap_u2, 2, 4) break; \
    case U4 + SWAPPED: DO(swap_u4, 4, 8) break; \
    case U8 + SWAPPED: DO(swap_u8, 8, 16) break; \
    case STAMP_IU + SWAPPED: DO(swap_stamp_iu, 8, 8) break; \
    case STAMP_UU + SWAPPED: DO(swap_stamp_uu, 8, 8) break; \
    case STAMP_II + SWAPPED: DO(swap_stamp_ii, 8, 8) break; \
    }

/* Scalars side by side: each to the row of its own column. */
static inline void put_scalars(
    int64_t kind, Column *columns, int64_t count, int64_t row, const uint8_t *from
) {
#define TO_COLUMNS(put, step, width) \
    for (int64_t i = 0; i < count; i++) put(columns[i].data + row * width, from + i * step);
    BY_KIND(kind, TO_COLUMNS)
}

/* An array: one number behind the other. */
static inline void put_array(int64_t kind, uint8_t *to, int64_t count, const uint8_t *from) {
    if (kind <= COPY8) { /* the kind is the logarithm of the size */
        if (count) memcpy(to, from, (size_t)count << kind);
        return;
    }
#define TO_ARRAY(put, step, width) \
    for (int64_t i = 0; i < count; i++) put(to + i * width, from + i * step);
    BY_KIND(kind, TO_ARRAY)
}

static int grow_level(Reader *reader, int64_t level, int64_t more) {
    Level *rows = &reader->levels[level];
    int64_t needed = rows->rows + more;
    if (needed <= rows->room) return SOUND;
    int64_t room = rows->room + rows->room / 2;
    if (room < needed) room = needed;
    for (int64_t i = 0; i < reader->column_count; i++) {
        Column *column = &reader->columns[i];
        if (column->level != level) continue;
        if (column->has_offsets) {
            int32_t *offsets = realloc(column->offsets, (size_t)(room + 1) * sizeof *offsets);
            if (!offsets) return NO_MEMORY;
            if (!column->offsets) offsets[0] = 0;
            column->offsets = offsets;
        } else {
            uint8_t *data = realloc(column->data, (size_t)(room * column->width + 1));
            if (!data) return NO_MEMORY;
            column->data = data;
        }
    }
    rows->room = room;
    return SOUND;
}

static int grow_column(Column *column, int64_t more) {
    Growing bytes = {column->data, column->size, column->room};
    if (column->size + more > INT32_MAX) return TOO_LARGE;
    if (!growing_reserve(&bytes, more)) return NO_MEMORY;
    column->data = bytes.data;
    column->room = bytes.room;
    return SOUND;
}

static inline int is_short(Reader *reader, int64_t size) {
    reader->detail = reader->at + size - reader->limit;
    return reader->detail > 0;
}

static inline void align(Reader *reader, int64_t size) {
    reader->at = (reader->at + size - 1) & -size;
}

static inline int read_length(Reader *reader, int64_t alignment, int64_t *length) {
    align(reader, alignment);
    if (is_short(reader, 4)) return SHORT;
    const uint8_t *from = reader->base + reader->at;
    *length = reader->swap ? swap4(from) : get4(from);
    reader->at += 4;
    return SOUND;
}

/* Whether `count` things of `size` bytes can't be in what is left of the message. */
static inline int is_too_long(Reader *reader, int64_t count, int64_t size) {
    reader->detail = count;
    return count > (reader->limit - reader->at) / size;
}

static inline int read_run(Reader *reader, const int64_t *run, int64_t row) {
    int64_t phase = reader->at & 7, size = run[RUN_SIZES + phase];
    if (is_short(reader, size)) return SHORT;
    const uint8_t *from = reader->base + reader->at;
    const int64_t *leaf = run + RUN_HEAD;
    for (int64_t i = run[RUN_LEAVES]; i > 0; i--, leaf += LEAF_WORDS) {
        int64_t kind = leaf[0], count = leaf[1], wanted = leaf[2];
        Column *column = reader->columns + leaf[3];
        const uint8_t *at = from + leaf[LEAF_OFFSETS + phase];
        if (wanted != 1 || count == 1)
            put_scalars(kind, column, wanted, row, at);
        else
            put_array(kind, column->data + row * column->width, count, at);
    }
    reader->at += size;
    return SOUND;
}

static int read_text(Reader *reader, const int64_t *item, int64_t row) {
    int64_t width = item[2], length;
    Column *column = reader->columns + item[3];
    int fault = read_length(reader, item[1], &length);
    if (fault) return fault;
    if (is_too_long(reader, length, width)) return BAD_LENGTH;
    const uint8_t *from = reader->base + reader->at;
    reader->at += length * width;
    if (width == 1) {
        if (length < reader->text_end) length = reader->text_end;
        length -= reader->text_end;
        if (column->size + length > column->room && (fault = grow_column(column, length)))
            return fault;
        if (length) memcpy(column->data + column->size, from, (size_t)length);
        if (!is_utf8(from, from + length)) return BAD_UTF8;
        column->size += length;
    } else {
        if ((fault = grow_column(column, 3 * length))) return fault;
        int64_t made = utf8_of_utf16(column->data + column->size, from, length, width, reader->swap);
        if (made < 0) return BAD_UTF16;
        column->size += made;
    }
    column->offsets[row + 1] = (int32_t)column->size;
    return SOUND;
}

/* item: op, alignment, kind, bytes of one, its alignment, its bytes in the column (0: a pointer,
 * which takes two columns), column */
static int read_numbers(Reader *reader, const int64_t *item, int64_t row) {
    int64_t kind = item[2], size = item[3], width = item[5], count;
    Column *column = reader->columns + item[6];
    int fault = read_length(reader, item[1], &count);
    if (fault) return fault;
    if (is_too_long(reader, count, size)) return BAD_LENGTH;
    if (count) align(reader, item[4]); /* CDR has no padding where nothing follows */
    if (is_short(reader, count * size)) return SHORT;
    const uint8_t *from = reader->base + reader->at;
    if (!width) {
        int64_t start = reader->head + reader->at, length = count * size;
        put_copy8(column[0].data + row * 8, (const uint8_t *)&start);
        put_copy8(column[1].data + row * 8, (const uint8_t *)&length);
    } else {
        if ((fault = grow_column(column, count * width))) return fault;
        put_array(kind, column->data + column->size, count, from);
        column->size += count * width;
        column->offsets[row + 1] = (int32_t)(column->size / width);
    }
    reader->at += count * size;
    return SOUND;
}

static int read_program(Reader *reader, const int64_t *program, int64_t row);

/* item: op, alignment, count (-1: a sequence), fewest bytes of one, level, column, words, program */
static int read_many(Reader *reader, const int64_t *item, int64_t row) {
    int64_t count = item[2], level = item[4];
    Level *rows = reader->levels + level;
    int fault = count < 0 ? read_length(reader, item[1], &count) : SOUND;
    if (fault) return fault;
    if (is_too_long(reader, count, item[3])) return BAD_LENGTH;
    if (rows->rows + count > INT32_MAX) return TOO_LARGE;
    if ((fault = grow_level(reader, level, count))) return fault;
    for (int64_t i = 0; i < count; i++) {
        if ((fault = read_program(reader, item + 7, rows->rows))) return fault;
        rows->rows++;
    }
    reader->columns[item[5]].offsets[row + 1] = (int32_t)rows->rows;
    return SOUND;
}

static int read_program(Reader *reader, const int64_t *program, int64_t row) {
    const int64_t *item = program + 1;
    for (int64_t i = program[0]; i > 0; i--) {
        int fault = SOUND;
        switch (item[0]) {
        case RUN:
            fault = read_run(reader, item, row);
            item += RUN_HEAD + item[RUN_LEAVES] * LEAF_WORDS;
            break;
        case TEXT:
            fault = read_text(reader, item, row);
            item += 4;
            break;
        case NUMBERS:
            fault = read_numbers(reader, item, row);
            item += 7;
            break;
        default:
            fault = read_many(reader, item, row);
            item += 7 + item[6];
        }
        if (fault) return fault;
    }
    return SOUND;
}

/* Undo what a bad message has written: row numbers go back to those of the messages before it. */
static void undo(Reader *reader) {
    for (int64_t i = 1; i < reader->level_count; i++) { /* a parent comes before its children */
        Column *parent = reader->columns + reader->levels[i].parent;
        reader->levels[i].rows = parent->offsets[reader->levels[parent->level].rows];
    }
    for (int64_t i = 0; i < reader->column_count; i++) {
        Column *column = reader->columns + i;
        if (column->has_offsets && column->width)
            column->size = column->offsets[reader->levels[column->level].rows] * column->width;
    }
}

/* Fetch the lines of a message that is read soon: in the arena it stands among many others. */
static inline void prefetch(const uint8_t *arena, int64_t arena_size, int64_t start, int64_t length) {
    int64_t end = start + (length < 1024 ? length : 1024);
    if (start < 0 || end > arena_size) return;
    for (int64_t at = start; at < end; at += 64) __builtin_prefetch(arena + at);
}

/* How many rows the messages can fill at the most, and one for a message that is bad: a type may
 * claim megabytes that none of them has. */
static int64_t most_rows(const int64_t *lengths, const int64_t *rows, int64_t count, int64_t least) {
    int64_t total = 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t length = lengths[rows ? rows[i] : i];
        if (length > 0) total += length;
    }
    int64_t most = least ? total / least + 1 : count;
    return most < count ? most : count;
}

/* Read messages.
 *
 * least: fewest bytes of a message behind its header.
 * header: what the first two bytes must be where messages have a CDR header of four, else -1.
 * padding: bytes that may be left behind the last field; -1 where any number may.
 * rows: (count) which of the messages to read, or NULL for all.
 * good: (count) filled with the messages that were read, bads with the others.
 *
 * Returns how many are good; or NO_MEMORY, TOO_LARGE, or OUTSIDE where a message is not in the
 * arena. Columns are the caller's to free in any case.
 */
int64_t ros_read(
    const int64_t *program, int64_t least, Column *columns, int64_t column_count, Level *levels,
    int64_t level_count, const uint8_t *arena, int64_t arena_size, const int64_t *starts,
    const int64_t *lengths, const int64_t *rows, int64_t count, int64_t header, int64_t swap,
    int64_t text_end, int64_t padding, int64_t *good, Bad *bads
) {
    Reader reader = {
        .columns = columns, .column_count = column_count, .levels = levels,
        .level_count = level_count, .text_end = text_end, .swap = swap,
    };
    int64_t most = most_rows(lengths, rows, count, least);
    for (int64_t i = 0; i < level_count; i++)
        if (grow_level(&reader, i, i ? 16 : most)) return NO_MEMORY;
    int64_t head = header < 0 ? 0 : 4, bad = 0;
    reader.head = head;
    for (int64_t i = 0; i < count; i++) {
        int64_t message = rows ? rows[i] : i;
        if (!rows && i + AHEAD < count) prefetch(arena, arena_size, starts[i + AHEAD], lengths[i + AHEAD]);
        int64_t start = starts[message], length = lengths[message];
        if (start < 0 || length < 0 || length > arena_size - start) return OUTSIDE;
        int fault;
        reader.detail = 0;
        if (length < head) {
            fault = NO_HEADER;
        } else if (head && ((arena[start] << 8) | arena[start + 1]) != header) {
            fault = OTHER_HEADER;
        } else {
            reader.base = arena + start + head;
            reader.limit = length - head;
            reader.at = 0;
            fault = read_program(&reader, program, levels[0].rows);
            if (fault < 0) return fault;
            reader.detail = fault ? reader.detail : reader.limit - reader.at;
            if (!fault && padding >= 0 && reader.detail > padding) fault = TRAILING;
            if (!fault) {
                good[levels[0].rows++] = message;
                continue;
            }
            undo(&reader);
        }
        bads[bad++] = (Bad){message, fault, reader.detail};
    }
    return levels[0].rows;
}
