/* Text: is it UTF-8, and UTF-8 of UTF-16. */
#ifndef UTF8_H
#define UTF8_H

#include <stdint.h>
#include <string.h>

/* Bytes of the character that stands at `from`, of which `left` bytes are there; 0 if it is none.
 * Source: Unicode 16, table 3-7. */
static inline int64_t utf8_character(const uint8_t *from, int64_t left) {
    uint8_t first = from[0], low = 0x80, high = 0xBF;
    int64_t size;
    if (first < 0x80) return 1;
    if (first < 0xC2) return 0;
    if (first < 0xE0) size = 2;
    else if (first < 0xF0) size = 3;
    else if (first < 0xF5) size = 4;
    else return 0;
    if (first == 0xE0) low = 0xA0;
    if (first == 0xED) high = 0x9F;
    if (first == 0xF0) low = 0x90;
    if (first == 0xF4) high = 0x8F;
    if (left < size || from[1] < low || from[1] > high) return 0;
    for (int64_t i = 2; i < size; i++)
        if ((from[i] & 0xC0) != 0x80) return 0;
    return size;
}

static inline int is_utf8(const uint8_t *from, int64_t length) {
    const uint64_t others = 0x8080808080808080u;
    while (length > 0) {
        uint64_t word = 0;
        memcpy(&word, from, length < 8 ? (size_t)length : 8);
        int64_t step = length < 8 ? length : 8;
        if (word & others) {
            step = utf8_character(from, length);
            if (!step) return 0;
        }
        from += step;
        length -= step;
    }
    return 1;
}

static inline uint32_t utf16_unit(const uint8_t *from, int64_t width, int64_t swap) {
    uint32_t unit = 0;
    for (int64_t i = 0; i < width; i++) {
        int64_t place = swap ? width - 1 - i : i;
        unit |= (uint32_t)from[i] << (8 * place);
    }
    return unit & 0xFFFF;
}

/* UTF-8 of `length` units of `width` bytes, of which two count; -1 if they are no UTF-16. Writes
 * at most three bytes a unit. */
static inline int64_t utf8_of_utf16(
    uint8_t *to, const uint8_t *from, int64_t length, int64_t width, int64_t swap
) {
    uint8_t *start = to;
    for (int64_t i = 0; i < length; i++) {
        uint32_t code = utf16_unit(from + i * width, width, swap);
        if (code >= 0xDC00 && code <= 0xDFFF) return -1;
        if (code >= 0xD800 && code <= 0xDBFF) {
            if (++i == length) return -1;
            uint32_t low = utf16_unit(from + i * width, width, swap);
            if (low < 0xDC00 || low > 0xDFFF) return -1;
            code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
        }
        if (code < 0x80) {
            *to++ = (uint8_t)code;
        } else if (code < 0x800) {
            *to++ = (uint8_t)(0xC0 | code >> 6);
            *to++ = (uint8_t)(0x80 | (code & 0x3F));
        } else if (code < 0x10000) {
            *to++ = (uint8_t)(0xE0 | code >> 12);
            *to++ = (uint8_t)(0x80 | (code >> 6 & 0x3F));
            *to++ = (uint8_t)(0x80 | (code & 0x3F));
        } else {
            *to++ = (uint8_t)(0xF0 | code >> 18);
            *to++ = (uint8_t)(0x80 | (code >> 12 & 0x3F));
            *to++ = (uint8_t)(0x80 | (code >> 6 & 0x3F));
            *to++ = (uint8_t)(0x80 | (code & 0x3F));
        }
    }
    return to - start;
}

#endif
