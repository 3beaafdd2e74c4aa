/* Reads many fields of many rows at once, block by block: a block of rows comes from memory once. */
#include "fields.h"

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

static int64_t first_misfit(const Field *fields, int64_t count, int64_t width, int64_t slots) {
    for (int64_t i = 0; i < count; i++) {
        const Field *field = fields + i;
        if (!field_fits(field, width) || field->raw_slot >= slots || field->value_slot >= slots)
            return i + 1;
    }
    return 0;
}

/* Read `count` fields of `rows` rows of `width` bytes, `stride` apart, into `slots` outputs of
   `rows` doubles each. `picked`: numbers of the rows to read, of `there`; NULL for the first ones.
   0, or which field (from 1) or -1 which row is not there. */
int64_t read_fields(const uint8_t *data, int64_t stride, int64_t width, int64_t there,
                    const int64_t *picked, int64_t rows, const Field *fields, int64_t count,
                    double *out, int64_t slots) {
    int64_t misfit = first_misfit(fields, count, width, slots);
    if (misfit) return misfit;
    if ((!picked && rows > there) || (picked && width > LARGEST_PICKED)) return -1;
    uint8_t held[BLOCK_BYTES];
    int64_t step = BLOCK_BYTES / (width > 0 ? width : 1);
    if (step < LEAST_ROWS && !picked) step = LEAST_ROWS;
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
        }
    }
    return 0;
}

static void whole_numbers(const uint8_t *data, int64_t stride, int64_t width, int64_t rows,
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
    for (int64_t row = 0; row < rows; row++) {
        uint64_t word = word_at(first + row * stride, field->is_big_endian);
        out[row] = (int64_t)(((word >> below & mask) ^ sign) - sign);
    }
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

/* Seconds as nanoseconds behind `start`, and which of them fit below `limit`. */
void seconds_to_ns(const double *seconds, int64_t rows, int64_t start, double limit,
                      int64_t *out, uint8_t *fits) {
    double base = (double)start;
    for (int64_t i = 0; i < rows; i++) {
        double ns = seconds[i] * 1e9;
        double sum = ns + base;
        int fit = sum > -limit && sum < limit && ns > -limit && ns < limit;
        double whole = __builtin_rint(fit ? ns : 0.0);
        out[i] = start + (int64_t)whole;
        fits[i] = (uint8_t)fit;
    }
}
