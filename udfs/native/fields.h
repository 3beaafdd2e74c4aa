/* Numbers at any bit of fixed-size rows: records of a measurement, payloads of frames. */
#ifndef FIELDS_H
#define FIELDS_H

#include <stdint.h>
#include <string.h>

enum { FIELD_UNSIGNED, FIELD_SIGNED, FIELD_FLOAT };

/* Where a number is and what is to be made of it; as `FIELD` of fields.py. */
typedef struct {
    int64_t byte_offset; /* first byte that holds any of its bits */
    int32_t bit_offset;  /* bits below it: in its first byte, or in its last if big-endian */
    int32_t bit_count;   /* 0 to 64; of a float 16, 32 or 64 */
    int32_t kind;
    int32_t is_big_endian;
    int32_t raw_slot;   /* which of the outputs takes the number as it is; -1 for none */
    int32_t value_slot; /* which takes number * factor + offset; -1 for none */
    double factor;
    double offset;
    int32_t range_slot; /* 1 + which of the bitmaps says that it lies in its range; 0 for none */
    int32_t unused;
    double low;
    double high;
} Field;

/* Bytes from the first to the last that hold any of its bits. */
static inline int64_t field_span(const Field *field) {
    return (field->bit_offset + field->bit_count + 7) / 8;
}

/* Whether a field lies in rows of `width` bytes and is of a kind that is read here. */
static inline int field_fits(const Field *field, int64_t width) {
    if (field->bit_count < 0 || field->bit_count > 64) return 0;
    if (field->bit_offset < 0 || field->bit_offset > 7) return 0;
    if (field->kind == FIELD_FLOAT && field->bit_count != 16 && field->bit_count != 32 &&
        field->bit_count != 64)
        return 0;
    return field->byte_offset >= 0 && field->byte_offset <= width &&
           field_span(field) <= width - field->byte_offset;
}

static inline uint64_t word_at(const uint8_t *at, int is_big_endian) {
    uint64_t word;
    memcpy(&word, at, 8);
    return is_big_endian ? __builtin_bswap64(word) : word;
}

static inline uint64_t mask_of(int32_t bit_count) {
    return bit_count >= 64 ? ~UINT64_C(0) : (UINT64_C(1) << bit_count) - 1;
}

/* The bits of a field of one row, byte by byte: for rows of less than a word, and for fields that
   begin inside a byte and so lie in nine. */
static inline uint64_t field_bits(const uint8_t *row, const Field *field) {
    const uint8_t *first = row + field->byte_offset;
    int64_t span = field_span(field);
    uint64_t low = 0, high = 0;
    for (int64_t i = 0; i < span; i++) {
        uint64_t byte = first[field->is_big_endian ? span - 1 - i : i];
        if (i < 8)
            low |= byte << (8 * i);
        else
            high = byte;
    }
    low >>= field->bit_offset;
    if (field->bit_offset) low |= high << (64 - field->bit_offset);
    return low & mask_of(field->bit_count);
}

/* A field, which is in the rows and no float, as whole numbers (fields.c). */
void whole_numbers(const uint8_t *data, int64_t stride, int64_t width, int64_t rows,
                   const Field *field, int64_t *restrict out);

/* The bits as a number of two's complement. */
static inline int64_t signed_bits(uint64_t bits, int32_t bit_count) {
    if (bit_count <= 0 || bit_count >= 64) return (int64_t)bits;
    uint64_t sign = UINT64_C(1) << (bit_count - 1);
    return (int64_t)((bits ^ sign) - sign);
}

static inline double as_double(uint64_t bits) {
    double number;
    memcpy(&number, &bits, 8);
    return number;
}

static inline double half_to_double(uint16_t half) {
    uint64_t sign = (uint64_t)(half >> 15) << 63;
    uint64_t exponent = half >> 10 & 31, fraction = half & 1023;
    if (exponent == 31) return as_double(sign | UINT64_C(0x7ff) << 52 | fraction << 42);
    if (exponent) return as_double(sign | (exponent + 1008) << 52 | fraction << 42);
    double small = (double)fraction / 16777216.0; /* 2^-24 */
    return sign ? -small : small;
}

static inline double number_of(uint64_t bits, const Field *field) {
    if (field->kind == FIELD_SIGNED) return (double)signed_bits(bits, field->bit_count);
    if (field->kind == FIELD_UNSIGNED) return (double)bits;
    if (field->bit_count == 64) return as_double(bits);
    if (field->bit_count == 16) return half_to_double((uint16_t)bits);
    uint32_t pattern = (uint32_t)bits;
    float number;
    memcpy(&number, &pattern, 4);
    return (double)number;
}

#endif
