/* UTF-8 as RFC 3629 has it: nothing overlong, no surrogates, nothing above U+10FFFF; and UTF-8 of
 * UTF-16. */
#ifndef UTF8_H
#define UTF8_H

#include <stdint.h>
#include <string.h>

static inline int is_ascii_word(const uint8_t *at) {
    uint64_t word;
    memcpy(&word, at, 8);
    return !(word & 0x8080808080808080u);
}

/* Bytes of the character that starts at `at` with a byte above 127; 0 if it is none. */
static inline int64_t utf8_character(const uint8_t *at, const uint8_t *end) {
    uint32_t head = at[0];
    int64_t size = head < 0xe0 ? 2 : head < 0xf0 ? 3 : 4;
    if (head < 0xc2 || head > 0xf4 || end - at < size) return 0;
    uint32_t second = at[1];
    uint32_t least = head == 0xe0 ? 0xa0 : head == 0xf0 ? 0x90 : 0x80;
    uint32_t most = head == 0xed ? 0x9f : head == 0xf4 ? 0x8f : 0xbf;
    if (second < least || second > most) return 0;
    for (int64_t i = 2; i < size; i++)
        if ((at[i] & 0xc0) != 0x80) return 0;
    return size;
}

static inline int is_utf8(const uint8_t *at, const uint8_t *end) {
    while (at < end) {
        if (end - at >= 8 && is_ascii_word(at)) {
            at += 8;
        } else if (*at < 0x80) {
            at++;
        } else {
            int64_t size = utf8_character(at, end);
            if (!size) return 0;
            at += size;
        }
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
