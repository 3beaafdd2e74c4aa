/* Goes over JSON texts and says what is in them. Source: RFC 8259 */
#ifndef JSON_SCAN_H
#define JSON_SCAN_H

#include "decimal.h"
#include "utf8.h"

enum { MAX_NESTING = 64, MAX_WHOLE_DIGITS = 4000 };

/* What is to be known of a string or of any value. */
typedef struct {
    int has_escapes;
    int has_surrogates;
    int is_canonical; /* the bytes are what json.dumps would write */
} Look;

/* Readers return where they stand behind what they have read, or NULL: the text is left. */
typedef const uint8_t *Position;

static inline Position skip_space(Position at, Position end) {
    while (at < end && (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t')) at++;
    return at;
}

static inline Position expect(Position at, Position end, const char *word, int64_t size) {
    return end - at >= size && !memcmp(at, word, (size_t)size) ? at + size : NULL;
}

static inline int hex_value(uint8_t c) {
    if (c >= '0' && c <= '9') return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The number of four hexadecimal digits, or -1. */
static inline int32_t hex_4(Position at, Position end) {
    int32_t value = 0;
    if (end - at < 4) return -1;
    for (int i = 0; i < 4; i++) {
        int digit = hex_value(at[i]);
        if (digit < 0) return -1;
        value = value << 4 | digit;
    }
    return value;
}

/* Which bytes of a word end a run of plain characters: of these the lowest bit set is right. */
static inline uint64_t special_bytes(uint64_t word) {
    const uint64_t ones = 0x0101010101010101u, tops = 0x8080808080808080u;
    uint64_t quote = word ^ ones * '"', slash = word ^ ones * '\\';
    return (((quote - ones) & ~quote) | ((slash - ones) & ~slash) | ((word - ones * 32) & ~word) |
            word) & tops;
}

/* Goes over a string from behind its first quote; returns where its last one is. */
static inline Position scan_string(Position at, Position end, Look *look) {
    while (at < end) {
        if (end - at >= 8) {
            uint64_t word;
            memcpy(&word, at, 8);
            uint64_t special = special_bytes(word);
            if (!special) {
                at += 8;
                continue;
            }
            at += __builtin_ctzll(special) / 8;
        }
        uint8_t c = *at;
        if (c == '"') return at;
        if (c < 0x20) return NULL;
        if (c >= 0x80) {
            int64_t size = utf8_character(at, end);
            if (!size) return NULL;
            at += size;
        } else if (c == '\\') {
            look->has_escapes = 1;
            if (end - at < 2) return NULL;
            if (at[1] == 'u') {
                int32_t unit = hex_4(at + 2, end);
                if (unit < 0) return NULL;
                look->has_surrogates |= (unit & 0xf800) == 0xd800;
                at += 6;
            } else {
                if (!at[1] || !strchr("\"\\/bfnrt", at[1])) return NULL;
                at += 2;
            }
        } else {
            at++;
        }
    }
    return NULL;
}

static inline uint8_t *put_character(uint8_t *to, uint32_t code) {
    if (code < 0x80) {
        *to++ = (uint8_t)code;
        return to;
    }
    if (code < 0x800) {
        *to++ = (uint8_t)(0xc0 | code >> 6);
    } else {
        if (code < 0x10000) {
            *to++ = (uint8_t)(0xe0 | code >> 12);
        } else {
            *to++ = (uint8_t)(0xf0 | code >> 18);
            *to++ = (uint8_t)(0x80 | (code >> 12 & 0x3f));
        }
        *to++ = (uint8_t)(0x80 | (code >> 6 & 0x3f));
    }
    *to++ = (uint8_t)(0x80 | (code & 0x3f));
    return to;
}

/* Writes a string that was scanned without its escapes, which is never longer; NULL where half a
   surrogate pair stands in it. */
static inline uint8_t *unescape(uint8_t *to, Position at, Position end) {
    static const char named[] = "b\bf\fn\nr\rt\t";
    while (at < end) {
        if (*at != '\\') {
            *to++ = *at++;
            continue;
        }
        if (at[1] != 'u') {
            const char *found = strchr(named, at[1]);
            *to++ = found ? (uint8_t)found[1] : at[1];
            at += 2;
            continue;
        }
        uint32_t code = (uint32_t)hex_4(at + 2, end);
        at += 6;
        if ((code & 0xf800) == 0xd800) {
            if (code >= 0xdc00 || end - at < 6 || at[0] != '\\' || at[1] != 'u') return NULL;
            uint32_t low = (uint32_t)hex_4(at + 2, end);
            if ((low & 0xfc00) != 0xdc00) return NULL;
            code = 0x10000 + ((code & 0x3ff) << 10) + (low & 0x3ff);
            at += 6;
        }
        to = put_character(to, code);
    }
    return to;
}

/* Whether json.dumps writes a number with these very digits: a whole one that is not -0, or one of
   at most 15 digits, which no shorter number stands for, in the range without exponents. */
static inline int is_canonical_number(const Decimal *number, Position at, Position end) {
    if (number->is_whole) return number->mantissa || !number->is_negative;
    if (number->is_cut || end - at > 16 || memchr(at, 'e', (size_t)(end - at)) ||
        memchr(at, 'E', (size_t)(end - at)))
        return 0;
    at += number->is_negative;
    return end[-1] != '0' && (end - at < 6 || memcmp(at, "0.0000", 6) != 0);
}

/* Goes over any value; what it holds is valid, and as json.dumps writes it if the look says so. */
static inline Position scan_value(Position at, Position end, Look *look) {
    uint8_t closers[MAX_NESTING];
    int depth = 0;
    for (;;) {
        int is_name = depth && closers[depth - 1] == '}';
        if (at >= end) return NULL;
        if (is_name) { /* stands at the quote of a name */
            if (*at != '"' || !(at = scan_string(at + 1, end, look))) return NULL;
            at = skip_space(at + 1, end);
            if (at >= end || *at != ':') return NULL;
            at = skip_space(at + 1, end);
            if (at >= end) return NULL;
        }
        uint8_t c = *at;
        if (c == '{' || c == '[') {
            if (depth == MAX_NESTING) return NULL;
            if (c == '{') look->is_canonical = 0;
            closers[depth++] = c == '{' ? '}' : ']';
            Position inner = skip_space(at + 1, end);
            if (inner != at + 1) look->is_canonical = 0;
            at = inner;
            if (at >= end) return NULL;
            if (*at != closers[depth - 1]) continue;
            depth--;
            at++;
        } else if (c == '"') {
            at = scan_string(at + 1, end, look);
            if (!at++) return NULL;
        } else if (c == 't' || c == 'n') {
            at = expect(at, end, c == 't' ? "true" : "null", 4);
        } else if (c == 'f') {
            at = expect(at, end, "false", 5);
        } else {
            Decimal number;
            Position after = read_decimal(at, end, &number);
            if (!after || number.digits > MAX_WHOLE_DIGITS) return NULL;
            if (look->is_canonical) look->is_canonical = is_canonical_number(&number, at, after);
            at = after;
        }
        if (!at) return NULL;
        for (;;) { /* behind a value */
            if (!depth) {
                if (look->has_escapes) look->is_canonical = 0;
                return at;
            }
            Position next = skip_space(at, end);
            if (next >= end) return NULL;
            if (next != at) look->is_canonical = 0;
            at = next + 1;
            if (*next == ',') break;
            if (*next != closers[--depth]) return NULL;
        }
        Position next = skip_space(at, end);
        if (next != at) look->is_canonical = 0;
        at = next;
    }
}

#endif
