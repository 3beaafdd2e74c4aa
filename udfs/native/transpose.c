/* Rows again of what was stored by columns (transposed deflate of MDF 4). */
#include <stdint.h>
#include <string.h>

#define STRIP 64

/* Eight words of eight bytes, turned over their diagonal: by bytes, by pairs, by halves. */
static inline void turn(uint64_t w[8]) {
    for (int i = 0; i < 8; i += 2) {
        uint64_t t = (w[i] >> 8 ^ w[i + 1]) & UINT64_C(0x00ff00ff00ff00ff);
        w[i + 1] ^= t;
        w[i] ^= t << 8;
    }
    for (int i = 0; i < 8; i += (i & 1) ? 3 : 1) {
        uint64_t t = (w[i] >> 16 ^ w[i + 2]) & UINT64_C(0x0000ffff0000ffff);
        w[i + 2] ^= t;
        w[i] ^= t << 16;
    }
    for (int i = 0; i < 4; i++) {
        uint64_t t = (w[i] >> 32 ^ w[i + 4]) & UINT64_C(0x00000000ffffffff);
        w[i + 4] ^= t;
        w[i] ^= t << 32;
    }
}

/* Rows from `row` on of a group of eight columns. */
static void eight_columns(const uint8_t *first, int64_t rows, int64_t row, int64_t end,
                          int64_t columns, uint8_t *out) {
    for (; row + 8 <= end; row += 8) {
        uint64_t words[8];
        for (int i = 0; i < 8; i++) memcpy(words + i, first + i * rows + row, 8);
        turn(words);
        for (int i = 0; i < 8; i++) memcpy(out + (row + i) * columns, words + i, 8);
    }
    for (; row < end; row++)
        for (int i = 0; i < 8; i++) out[row * columns + i] = first[i * rows + row];
}

/* `size` bytes that hold whole rows by columns, and behind them what is left, to rows. Taken in
   strips of rows, so that each line of memory, and each page, is met once. */
void rows_of_columns(const uint8_t *plain, int64_t size, int64_t columns, uint8_t *out) {
    int64_t rows = columns > 0 ? size / columns : 0;
    for (int64_t row = 0; row < rows; row += STRIP) {
        int64_t end = rows - row < STRIP ? rows : row + STRIP;
        int64_t column = 0;
        for (; column + 8 <= columns; column += 8)
            eight_columns(plain + column * rows, rows, row, end, columns, out + column);
        for (; column < columns; column++)
            for (int64_t i = row; i < end; i++)
                out[i * columns + column] = plain[column * rows + i];
    }
    memcpy(out + rows * columns, plain + rows * columns, (size_t)(size - rows * columns));
}
