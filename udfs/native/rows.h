/* Nested columns that a kernel appends rows to (rows.py makes Arrow arrays of them).

   Columns stand in preorder: the parts of a struct and the element of a list come behind it. A row
   that nothing was written to has no value: null where the column is nullable, else zero or empty.
   Such rows are filled in when the next value comes, or at the end, so that an absent field costs
   nothing. The row that is being written is always the last of its column; so it can be written
   again, and a message that turns out to be bad is cut off again, whatever it has left behind. */
#ifndef ROWS_H
#define ROWS_H

#include "growing.h"

enum { ROWS_STRUCT, ROWS_LIST, ROWS_TEXT, ROWS_BITS, ROWS_FIXED };
enum { ROWS_FIRST_ROOM = 1024 };

/* What ends the work on a batch; a message that is left to another parser does not. */
enum { ROWS_NO_MEMORY = -1, ROWS_TOO_LARGE = -2 };

typedef struct {
    Growing values;   /* numbers, bits, or the bytes of texts */
    Growing offsets;  /* int32, of texts and lists: one more than rows */
    Growing valid;    /* bits; nothing is allocated while every row has a value */
    int64_t count;    /* rows written; bits behind them are zero */
    int64_t room;     /* rows allocated */
    int64_t elements; /* rows of a list's element */
    int64_t rows;     /* rows there are to be, once finished */
    int32_t kind;
    int32_t width;    /* bytes of a number */
    int32_t nullable;
    int32_t parent;   /* -1 at the top */
    int32_t end;      /* first column behind this one and its parts */
    int32_t is_raw;   /* some texts still need the closer look of Python */
} Column;

static inline int rows_grow(Growing *buffer, int64_t bytes) {
    if (bytes <= buffer->room) return 1;
    uint8_t *data = realloc(buffer->data, (size_t)bytes);
    if (!data) return 0;
    buffer->data = data;
    buffer->room = bytes;
    return 1;
}

/* The same for bits, which are zero until they are set. */
static inline int bits_grow(Growing *bits, int64_t bytes) {
    int64_t old = bits->room;
    if (!rows_grow(bits, bytes)) return 0;
    if (bytes > old) memset(bits->data + old, 0, (size_t)(bytes - old));
    return 1;
}

static inline int64_t bits_bytes(int64_t bits) { return (bits + 7) / 8; }

static inline void bit_set(uint8_t *bits, int64_t i) { bits[i >> 3] |= (uint8_t)(1u << (i & 7)); }

static inline void bit_clear(uint8_t *bits, int64_t i) {
    bits[i >> 3] &= (uint8_t)~(1u << (i & 7));
}

static inline int32_t *offsets_of(const Column *column) {
    return (int32_t *)(void *)column->offsets.data;
}

/* Room for the rows. */
static inline int column_grow(Column *column, int64_t rows) {
    int64_t room = 2 * column->room;
    if (room < ROWS_FIRST_ROOM) room = ROWS_FIRST_ROOM;
    if (room < rows) room = rows;
    int fits = 1;
    if (column->kind == ROWS_FIXED) fits = rows_grow(&column->values, room * column->width);
    if (column->kind == ROWS_BITS) fits = bits_grow(&column->values, bits_bytes(room));
    if (column->kind == ROWS_LIST || column->kind == ROWS_TEXT) {
        fits = rows_grow(&column->offsets, (room + 1) * 4);
        if (fits && !column->room) offsets_of(column)[0] = 0;
    }
    if (column->valid.data) fits = fits && bits_grow(&column->valid, bits_bytes(room));
    if (fits) column->room = room;
    return fits;
}

/* The first row without a value: those before it have one. */
static inline int column_mark(Column *column) {
    if (!bits_grow(&column->valid, bits_bytes(column->room) + 1)) return 0;
    memset(column->valid.data, 0xff, (size_t)(column->count / 8));
    for (int64_t i = column->count & ~(int64_t)7; i < column->count; i++)
        bit_set(column->valid.data, i);
    return 1;
}

/* Makes a row ready to be written, and fills in those before it; 0 without memory. */
static inline int column_open(Column *column, int64_t row) {
    if (row < column->count) return 1;
    if (row >= column->room && !column_grow(column, row + 1)) return 0;
    if (row == column->count) return 1;
    if (column->nullable && !column->valid.data && !column_mark(column)) return 0;
    if (column->kind == ROWS_FIXED)
        memset(column->values.data + column->count * column->width, 0,
               (size_t)((row - column->count) * column->width));
    if (column->kind == ROWS_LIST || column->kind == ROWS_TEXT) {
        int32_t *offsets = offsets_of(column);
        for (int64_t i = column->count; i < row; i++) offsets[i + 1] = offsets[column->count];
    }
    column->count = row;
    return 1;
}

/* Says that the row has its value. */
static inline void column_keep(Column *column, int64_t row) {
    column->count = row + 1;
    if (column->valid.data) bit_set(column->valid.data, row);
}

static inline int column_ready(Column *column, int64_t row) {
    if (row == column->count && row < column->room) return 1;
    return column_open(column, row);
}

static inline int put_4(Column *column, int64_t row, uint32_t value) {
    if (!column_ready(column, row)) return 0;
    memcpy(column->values.data + row * 4, &value, 4);
    column_keep(column, row);
    return 1;
}

static inline int put_8(Column *column, int64_t row, uint64_t value) {
    if (!column_ready(column, row)) return 0;
    memcpy(column->values.data + row * 8, &value, 8);
    column_keep(column, row);
    return 1;
}

/* An unsigned number as a decimal of 128 bits. */
static inline int put_16(Column *column, int64_t row, uint64_t value) {
    if (!column_ready(column, row)) return 0;
    uint64_t words[2] = {value, 0};
    memcpy(column->values.data + row * 16, words, 16);
    column_keep(column, row);
    return 1;
}

static inline int put_bit(Column *column, int64_t row, int value) {
    if (!column_ready(column, row)) return 0;
    if (value)
        bit_set(column->values.data, row);
    else
        bit_clear(column->values.data, row);
    column_keep(column, row);
    return 1;
}

/* Room for a text of at most so many bytes at a row that is to be written, and 8 behind them.
   Returns where it goes, or NULL; `*status` then says why. */
static inline uint8_t *text_open(Column *column, int64_t row, int64_t bytes, int *status) {
    *status = ROWS_NO_MEMORY;
    if (!column_ready(column, row)) return NULL;
    int64_t start = offsets_of(column)[row];
    if (start + bytes > INT32_MAX) {
        *status = ROWS_TOO_LARGE;
        return NULL;
    }
    column->values.size = start;
    if (!growing_reserve(&column->values, bytes + 8)) return NULL;
    return column->values.data + start;
}

/* Says that the row has a text of so many bytes. */
static inline void text_keep(Column *column, int64_t row, int64_t bytes) {
    int32_t *offsets = offsets_of(column);
    column->values.size = offsets[row] + bytes;
    offsets[row + 1] = (int32_t)column->values.size;
    column_keep(column, row);
}

/* Says that a row's list, which must be open, has so many elements more; 0 if they are too many. */
static inline int list_extend(Column *column, int64_t row, int64_t more) {
    if (column->elements + more > INT32_MAX) return 0;
    column->elements += more;
    offsets_of(column)[row + 1] = (int32_t)column->elements;
    column_keep(column, row);
    return 1;
}

static inline void bits_cut(uint8_t *bits, int64_t from, int64_t to) {
    for (int64_t i = from; i < to; i++) bit_clear(bits, i);
}

/* Cuts off rows of the columns from `first` to `end`, whose topmost keep `rows` rows. */
static inline void rows_cut(Column *columns, int32_t first, int32_t end, int64_t rows) {
    for (int32_t i = first; i < end; i++) {
        Column *column = columns + i;
        const Column *parent = column->parent < first ? NULL : columns + column->parent;
        int64_t kept = !parent ? rows : parent->kind == ROWS_LIST ? parent->elements : parent->rows;
        column->rows = kept;
        if (column->count <= kept) continue;
        if (column->valid.data) bits_cut(column->valid.data, kept, column->count);
        if (column->kind == ROWS_BITS) bits_cut(column->values.data, kept, column->count);
        if (column->kind == ROWS_LIST) column->elements = offsets_of(column)[kept];
        column->count = kept;
    }
}

/* Fills every column up to the rows that it must have; 0 without memory. */
static inline int rows_finish(Column *columns, int32_t count, int64_t rows) {
    for (int32_t i = 0; i < count; i++) {
        Column *column = columns + i;
        const Column *parent = column->parent < 0 ? NULL : columns + column->parent;
        column->rows = !parent ? rows : parent->kind == ROWS_LIST ? parent->elements : parent->rows;
        if (!column_open(column, column->rows)) return 0;
        if (column->kind == ROWS_FIXED) column->values.size = column->rows * column->width;
        if (column->kind == ROWS_BITS) column->values.size = bits_bytes(column->rows);
        if (column->kind == ROWS_LIST || column->kind == ROWS_TEXT)
            column->offsets.size = (column->rows + 1) * 4;
        if (column->kind == ROWS_TEXT) column->values.size = offsets_of(column)[column->rows];
        if (column->valid.data) column->valid.size = bits_bytes(column->rows);
    }
    return 1;
}

#endif
