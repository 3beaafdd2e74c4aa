/* Reads many fields of many rows at once, block by block: a block of rows comes from memory once. */
#include "fields.h"

#ifdef __AVX2__
#include <immintrin.h>
#endif

/* A product is rounded before the sum, as NumPy does it: the same values on every machine. */
#pragma STDC FP_CONTRACT OFF

#define BLOCK_BYTES (16 << 10)
#define LEAST_ROWS 64
#define LARGEST_PICKED 64 /* bytes of a row that may be picked by number */
#define EXPONENT_52 UINT64_C(0x4330000000000000)
#define TWO_52 4503599627370496.0

typedef struct {
    double *raw;
    double *value;
} Output;

static inline void put(double number, int64_t i, const Field *field, Output out) {
    if (out.raw) out.raw[i] = number;
    if (!out.value) return;
    double scaled = number * field->factor;
    out.value[i] = field->offset != 0 ? scaled + field->offset : scaled;
}

/* Integers of up to 52 bits inside a word: below 2^52 the bits are the fraction of a double. */
static inline __attribute__((always_inline)) void small_integers(
    const uint8_t *first, int64_t stride, int64_t rows, const Field *field, int is_big_endian,
    uint64_t below, int has_value, int has_offset, Output out) {
    uint64_t mask = mask_of(field->bit_count);
    uint64_t sign = 0;
    if (field->kind == FIELD_SIGNED && field->bit_count)
        sign = UINT64_C(1) << (field->bit_count - 1);
    double bias = TWO_52 + (double)sign, factor = field->factor, offset = field->offset;
    double *restrict raw = out.raw, *restrict value = out.value;
    for (int64_t i = 0; i < rows; i++) {
        uint64_t word = word_at(first + i * stride, is_big_endian);
        double number = as_double(((word >> below & mask) ^ sign) | EXPONENT_52) - bias;
        raw[i] = number;
        if (has_value) {
            double scaled = number * factor;
            value[i] = has_offset ? scaled + offset : scaled;
        }
    }
}

/* The loop once for each way it can go, so that none of them is decided in it. */
static void plain_integers(const uint8_t *first, int64_t stride, int64_t rows, const Field *field,
                           uint64_t below, Output out) {
    int has_offset = field->offset != 0;
#define RUN(STRIDE, BIG)                                                                        \
    do {                                                                                        \
        if (!out.value)                                                                         \
            small_integers(first, STRIDE, rows, field, BIG, below, 0, 0, out);                  \
        else if (has_offset)                                                                    \
            small_integers(first, STRIDE, rows, field, BIG, below, 1, 1, out);                  \
        else                                                                                    \
            small_integers(first, STRIDE, rows, field, BIG, below, 1, 0, out);                  \
    } while (0)
    if (stride == 8 && field->is_big_endian)
        RUN(8, 1);
    else if (stride == 8)
        RUN(8, 0);
    else if (field->is_big_endian)
        RUN(stride, 1);
    else
        RUN(stride, 0);
#undef RUN
}

static void whole_floats(const uint8_t *first, int64_t stride, int64_t rows, const Field *field,
                         Output out) {
    if (field->bit_count == 64) {
        for (int64_t i = 0; i < rows; i++)
            put(as_double(word_at(first + i * stride, field->is_big_endian)), i, field, out);
        return;
    }
    for (int64_t i = 0; i < rows; i++) {
        uint32_t bits;
        memcpy(&bits, first + i * stride, 4);
        if (field->is_big_endian) bits = __builtin_bswap32(bits);
        float number;
        memcpy(&number, &bits, 4);
        put((double)number, i, field, out);
    }
}

static void read_block(const uint8_t *rows, int64_t stride, int64_t width, int64_t count,
                       const Field *field, Output out) {
    int64_t span = field_span(field);
    if (field->kind == FIELD_FLOAT && !field->bit_offset && field->bit_count >= 32) {
        whole_floats(rows + field->byte_offset, stride, count, field, out);
        return;
    }
    if (field->kind != FIELD_FLOAT && field->bit_count <= 52 && width >= 8 && out.raw) {
        int64_t begin = field->byte_offset < width - 8 ? field->byte_offset : width - 8;
        int64_t below = 8 * (field->byte_offset - begin);
        if (field->is_big_endian) below = 8 * (begin + 8 - field->byte_offset - span);
        below += field->bit_offset;
        /* A field of 52 bits or less that begins inside a byte may still lie in eight. */
        if (below >= 0 && span <= 8) {
            plain_integers(rows + begin, stride, count, field, (uint64_t)below & 63, out);
            return;
        }
    }
    for (int64_t i = 0; i < count; i++)
        put(number_of(field_bits(rows + i * stride, field), field), i, field, out);
}

/* Bytes of a bitmap of so many rows, in whole words. */
static inline int64_t map_bytes(int64_t rows) { return (rows + 63) / 64 * 8; }

/* Which of eight numbers lie in a range, its ends included; NaN does not. */
static inline unsigned eight_in_range(const double *numbers, double low, double high) {
#ifdef __AVX2__
    unsigned found = 0;
    for (int i = 0; i < 8; i += 4) {
        __m256d four = _mm256_loadu_pd(numbers + i);
        __m256d above = _mm256_cmp_pd(four, _mm256_set1_pd(low), _CMP_GE_OQ);
        __m256d below = _mm256_cmp_pd(four, _mm256_set1_pd(high), _CMP_LE_OQ);
        found |= (unsigned)_mm256_movemask_pd(_mm256_and_pd(above, below)) << i;
    }
    return found;
#else
    unsigned found = 0;
    for (int i = 0; i < 8; i++) found |= (unsigned)((numbers[i] >= low) & (numbers[i] <= high)) << i;
    return found;
#endif
}

/* The same of all numbers, as bits; `bits` begins a byte. */
static void mark_range(const double *numbers, int64_t rows, double low, double high,
                       uint8_t *bits) {
    int64_t whole = rows / 8;
    for (int64_t at = 0; at < whole; at++)
        bits[at] = (uint8_t)eight_in_range(numbers + 8 * at, low, high);
    if (rows % 8) bits[whole] = 0;
    for (int64_t i = 8 * whole; i < rows; i++)
        bits[whole] |= (uint8_t)(((numbers[i] >= low) & (numbers[i] <= high)) << (i % 8));
}

static int64_t first_misfit(const Field *fields, int64_t count, int64_t width, int64_t slots,
                            int64_t maps) {
    for (int64_t i = 0; i < count; i++) {
        const Field *field = fields + i;
        int is_read = field->raw_slot >= 0 || field->value_slot >= 0;
        if (!field_fits(field, width) || field->raw_slot >= slots || field->value_slot >= slots ||
            field->range_slot > maps || field->range_slot < 0 || (field->range_slot && !is_read))
            return i + 1;
    }
    return 0;
}

/* Read `count` fields of `rows` rows of `width` bytes, `stride` apart, into `slots` outputs of
   `rows` doubles each, and into `maps` bitmaps. `picked`: numbers of the rows to read, of `there`;
   NULL for the first ones. 0, or which field (from 1) or -1 which row is not there. */
int64_t read_fields(const uint8_t *data, int64_t stride, int64_t width, int64_t there,
                    const int64_t *picked, int64_t rows, const Field *fields, int64_t count,
                    double *out, int64_t slots, uint8_t *bits, int64_t maps) {
    int64_t misfit = first_misfit(fields, count, width, slots, maps);
    if (misfit) return misfit;
    if ((!picked && rows > there) || (picked && width > LARGEST_PICKED)) return -1;
    uint8_t held[BLOCK_BYTES];
    int64_t step = BLOCK_BYTES / (width > 0 ? width : 1);
    if (step < LEAST_ROWS && !picked) step = LEAST_ROWS;
    step &= ~INT64_C(7); /* bitmaps go on at a byte */
    for (int64_t start = 0; start < rows; start += step) {
        int64_t some = rows - start < step ? rows - start : step;
        const uint8_t *block = data + start * stride;
        int64_t apart = stride;
        if (picked) {
            for (int64_t i = 0; i < some; i++) {
                int64_t row = picked[start + i];
                if (row < 0 || row >= there) return -1;
                memcpy(held + i * width, data + row * stride, (size_t)width);
            }
            block = held;
            apart = width;
        }
        for (int64_t i = 0; i < count; i++) {
            const Field *field = fields + i;
            Output output = {
                field->raw_slot < 0 ? NULL : out + field->raw_slot * rows + start,
                field->value_slot < 0 ? NULL : out + field->value_slot * rows + start,
            };
            read_block(block, apart, width, some, field, output);
            if (field->range_slot)
                mark_range(output.value ? output.value : output.raw, some, field->low, field->high,
                           bits + (field->range_slot - 1) * map_bytes(rows) + start / 8);
        }
    }
    return 0;
}

/* Rows that have the same fields; as `RUN` of fields.py. */
typedef struct {
    int64_t first, rows;
    int64_t field, fields; /* of all: the first, and how many */
    int64_t slots, out;    /* outputs, and where the first begins */
    int64_t maps, bits;    /* bitmaps, and the byte where the first begins */
} Run;

/* Read runs of rows, each with fields of its own, as `read_fields` does. 0, or which run (from 1)
   is not as it must be. */
int64_t read_runs(const uint8_t *data, int64_t width, int64_t there, const Run *runs,
                  int64_t count, const Field *fields, int64_t field_count, double *out,
                  int64_t room, uint8_t *bits, int64_t bits_room) {
    for (int64_t i = 0; i < count; i++) {
        const Run *run = runs + i;
        if (run->first < 0 || run->rows < 0 || run->rows > there - run->first) return i + 1;
        if (run->field < 0 || run->fields < 0 || run->fields > field_count - run->field)
            return i + 1;
        if (run->out < 0 || run->slots * run->rows > room - run->out) return i + 1;
        if (run->bits < 0 || run->maps * map_bytes(run->rows) > bits_room - run->bits)
            return i + 1;
        if (read_fields(data + run->first * width, width, width, run->rows, NULL, run->rows,
                        fields + run->field, run->fields, out + run->out, run->slots,
                        bits + run->bits, run->maps))
            return i + 1;
    }
    return 0;
}

/* Fields inside a word, the sign spread by what is above it. */
static inline __attribute__((always_inline)) void word_numbers(
    const uint8_t *first, int64_t stride, int64_t rows, int is_big_endian, int is_signed,
    uint64_t below, uint64_t mask, uint64_t sign, int64_t *restrict out) {
    for (int64_t row = 0; row < rows; row++) {
        uint64_t bits = word_at(first + row * stride, is_big_endian) >> below & mask;
        out[row] = (int64_t)(is_signed ? (bits ^ sign) - sign : bits);
    }
}

void whole_numbers(const uint8_t *data, int64_t stride, int64_t width, int64_t rows,
                   const Field *field, int64_t *restrict out) {
    int64_t span = field_span(field);
    int is_signed = field->kind == FIELD_SIGNED && field->bit_count && field->bit_count < 64;
    uint64_t sign = is_signed ? UINT64_C(1) << (field->bit_count - 1) : 0;
    if (width < 8 || span > 8) {
        for (int64_t row = 0; row < rows; row++)
            out[row] = (int64_t)((field_bits(data + row * stride, field) ^ sign) - sign);
        return;
    }
    int64_t begin = field->byte_offset < width - 8 ? field->byte_offset : width - 8;
    int64_t below = 8 * (field->byte_offset - begin);
    if (field->is_big_endian) below = 8 * (begin + 8 - field->byte_offset - span);
    below = (below + field->bit_offset) & 63;
    uint64_t mask = mask_of(field->bit_count);
    const uint8_t *first = data + begin;
    if (field->is_big_endian)
        word_numbers(first, stride, rows, 1, 1, (uint64_t)below, mask, sign, out);
    else if (is_signed)
        word_numbers(first, stride, rows, 0, 1, (uint64_t)below, mask, sign, out);
    else
        word_numbers(first, stride, rows, 0, 0, (uint64_t)below, mask, sign, out);
}

/* Read fields as whole numbers, each into `rows` of the outputs; 64 bits without a sign wrap.
   0, or which field (from 1) is not in the rows or is a float. */
int64_t read_integers(const uint8_t *data, int64_t stride, int64_t width, int64_t rows,
                      const Field *fields, int64_t count, int64_t *out) {
    for (int64_t i = 0; i < count; i++)
        if (!field_fits(fields + i, width) || fields[i].kind == FIELD_FLOAT) return i + 1;
    int64_t step = BLOCK_BYTES / (width > 0 ? width : 1);
    if (step < LEAST_ROWS) step = LEAST_ROWS;
    for (int64_t start = 0; start < rows; start += step) {
        int64_t some = rows - start < step ? rows - start : step;
        for (int64_t i = 0; i < count; i++)
            whole_numbers(data + start * stride, stride, width, some, fields + i,
                          out + i * rows + start);
    }
    return 0;
}

/* Seconds, `stride` bytes apart, as nanoseconds behind `start`, and which of them fit below `limit`. */
void seconds_to_ns(const uint8_t *seconds, int64_t stride, int64_t rows, int64_t start,
                   double limit, int64_t *out, uint8_t *fits) {
    double base = (double)start;
    for (int64_t i = 0; i < rows; i++) {
        double ns = as_double(word_at(seconds + i * stride, 0)) * 1e9;
        double sum = ns + base;
        int fit = sum > -limit && sum < limit && ns > -limit && ns < limit;
        double whole = __builtin_rint(fit ? ns : 0.0);
        out[i] = start + (int64_t)whole;
        fits[i] = (uint8_t)fit;
    }
}
