/* Many short signals put one behind the other in columns, as a batch of their own each would cost
   more than their rows do. */
#include <stdint.h>
#include <string.h>

enum { COLUMNS_OF_WORDS = 4 };

/* Samples of one signal; as `PART` of signal_parts.py. */
typedef struct {
    const int64_t *sequence, *log_time_ns;
    const double *value, *raw_value;
    const uint8_t *in_range; /* bits from the first on; NULL where it has no range */
    int64_t rows;
    int64_t words[COLUMNS_OF_WORDS]; /* which word each column of words repeats; -1 for none */
} Part;

static void copy_bits(const uint8_t *from, int64_t rows, uint8_t *to, int64_t at) {
    for (int64_t i = 0; i < rows; i++)
        if (from[i >> 3] >> (i & 7) & 1) to[(at + i) >> 3] |= (uint8_t)(1u << ((at + i) & 7));
}

static void set_bits(int64_t rows, uint8_t *to, int64_t at) {
    int64_t end = at + rows;
    for (; at < end && at % 8; at++) to[at >> 3] |= (uint8_t)(1u << (at & 7));
    if (end > at) memset(to + at / 8, 0xff, (size_t)(end - at) / 8);
    for (at += (end - at) & ~INT64_C(7); at < end; at++) to[at >> 3] |= (uint8_t)(1u << (at & 7));
}

/* Numbers of all parts: (4, rows) of 8 bytes as they stand in `Part`; bits of `in_range`, and of
   where it is known, both zero before. */
void join_numbers(const Part *parts, int64_t count, int64_t rows, uint8_t *out, uint8_t *in_range,
                  uint8_t *known) {
    int64_t at = 0;
    for (int64_t i = 0; i < count; i++) {
        const Part *part = parts + i;
        size_t bytes = (size_t)part->rows * 8;
        memcpy(out + 8 * at, part->sequence, bytes);
        memcpy(out + 8 * (rows + at), part->log_time_ns, bytes);
        memcpy(out + 8 * (2 * rows + at), part->value, bytes);
        memcpy(out + 8 * (3 * rows + at), part->raw_value, bytes);
        if (part->in_range) {
            copy_bits(part->in_range, part->rows, in_range, at);
            set_bits(part->rows, known, at);
        }
        at += part->rows;
    }
}

/* One column of words: each part's word once for each of its rows. `known`: bits, zero before; NULL
   where every part has one. */
void join_words(const Part *parts, int64_t count, int64_t column, const int32_t *starts,
                const uint8_t *letters, int32_t *offsets, uint8_t *out, uint8_t *known) {
    int64_t at = 0, end = 0;
    offsets[0] = 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t word = parts[i].words[column], rows = parts[i].rows;
        int64_t size = word < 0 ? 0 : starts[word + 1] - starts[word], total = size * rows;
        if (total) memcpy(out + end, letters + starts[word], (size_t)size);
        for (int64_t done = size; done < total; done *= 2)
            memcpy(out + end + done, out + end, (size_t)(done < total - done ? done : total - done));
        for (int64_t row = 1; row <= rows; row++) offsets[at + row] = (int32_t)(end + row * size);
        if (known && word >= 0) set_bits(rows, known, at);
        at += rows;
        end += total;
    }
}
