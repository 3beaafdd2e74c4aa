/* Decimal numbers to the nearest double, ties to even.

   Source: D. Lemire, Number Parsing at a Gigabyte per Second (2021); W. D. Clinger (1990). */
#ifndef DECIMAL_H
#define DECIMAL_H

#include <stdint.h>
#include <string.h>

enum { POWER_MIN = -348, POWER_MAX = 347, DIGITS_MAX = 19 };

/* -1^is_negative * mantissa * 10^exponent; where digits were dropped, a little more than that. */
typedef struct {
    uint64_t mantissa;
    int64_t exponent;
    int64_t digits; /* of the whole part */
    int is_negative;
    int is_cut;   /* it has more digits than the mantissa holds */
    int is_whole; /* it was written without fraction and exponent */
} Decimal;

/* The bits of the double without its sign, or 0 where this takes more exact arithmetic.
   `powers` are the upper 128 bits of 10^POWER_MIN to 10^POWER_MAX, rounded down, low word first. */
static inline uint64_t nearest_bits(const uint64_t *powers, uint64_t mantissa, int64_t exponent) {
    if (exponent < POWER_MIN || exponent > POWER_MAX) return 0;
    const uint64_t *power = powers + 2 * (exponent - POWER_MIN);
    int zeros = __builtin_clzll(mantissa);
    mantissa <<= zeros;
    uint64_t two = (uint64_t)(((217706 * exponent) >> 16) + 64 + 1023 - zeros);
    unsigned __int128 product = (unsigned __int128)mantissa * power[1];
    uint64_t high = (uint64_t)(product >> 64), low = (uint64_t)product;
    if ((high & 0x1ff) == 0x1ff && low + mantissa < mantissa) {
        unsigned __int128 more = (unsigned __int128)mantissa * power[0];
        uint64_t merged_high = high, merged_low = low + (uint64_t)(more >> 64);
        if (merged_low < low) merged_high++;
        if ((merged_high & 0x1ff) == 0x1ff && merged_low + 1 == 0 &&
            (uint64_t)more + mantissa < mantissa)
            return 0;
        high = merged_high;
        low = merged_low;
    }
    uint64_t top = high >> 63, bits = high >> (top + 9);
    two -= 1 ^ top;
    if (!low && !(high & 0x1ff) && (bits & 3) == 1) return 0;
    bits += bits & 1;
    bits >>= 1;
    if (bits >> 53) {
        bits >>= 1;
        two++;
    }
    return two - 1 >= 0x7ff - 1 ? 0 : two << 52 | (bits & (((uint64_t)1 << 52) - 1));
}

/* The nearest double; 0 where another has to tell. */
static inline int nearest_double(const uint64_t *powers, const Decimal *number, double *found) {
    static const double small[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                   1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                   1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    uint64_t mantissa = number->mantissa;
    int64_t exponent = number->exponent;
    double value;
    if (!mantissa) {
        value = 0;
    } else if (mantissa <= (uint64_t)1 << 53 && exponent >= -22 && exponent <= 22 &&
               !number->is_cut) {
        value = (double)mantissa;
        value = exponent < 0 ? value / small[-exponent] : value * small[exponent];
    } else {
        uint64_t bits = nearest_bits(powers, mantissa, exponent);
        if (!bits || (number->is_cut && nearest_bits(powers, mantissa + 1, exponent) != bits))
            return 0;
        memcpy(&value, &bits, 8);
    }
    *found = number->is_negative ? -value : value;
    return 1;
}

/* Reads a number as JSON has it; returns where it ends, or NULL. */
static inline const uint8_t *read_decimal(const uint8_t *at, const uint8_t *end, Decimal *number) {
    uint64_t mantissa = 0;
    int64_t dropped = 0, digits = 0, kept = 0, exponent = 0;
    number->is_negative = at < end && *at == '-';
    if (number->is_negative) at++;
    const uint8_t *start = at;
    while (at < end && (uint8_t)(*at - '0') < 10 && at - start < DIGITS_MAX)
        mantissa = mantissa * 10 + (uint64_t)(*at++ - '0');
    kept = mantissa ? at - start : 0;
    for (; at < end && (uint8_t)(*at - '0') < 10; at++) dropped++;
    digits = at - start;
    if (!digits || (*start == '0' && digits > 1)) return NULL;
    exponent = dropped;
    number->digits = digits;
    number->is_whole = 1;
    if (at < end && *at == '.') {
        const uint8_t *fraction = ++at;
        for (; at < end && (uint8_t)(*at - '0') < 10; at++) {
            if (kept >= DIGITS_MAX) {
                dropped++;
                continue;
            }
            mantissa = mantissa * 10 + (uint64_t)(*at - '0');
            kept += mantissa != 0;
            exponent--;
        }
        if (at == fraction) return NULL;
        number->is_whole = 0;
    }
    if (at < end && (*at | 32) == 'e') {
        at++;
        int is_minus = at < end && *at == '-';
        if (at < end && (*at == '-' || *at == '+')) at++;
        const uint8_t *first = at;
        int64_t power = 0;
        for (; at < end && (uint8_t)(*at - '0') < 10; at++)
            if (power < 1000000) power = power * 10 + (*at - '0');
        if (at == first) return NULL;
        exponent += is_minus ? -power : power;
        number->is_whole = 0;
    }
    number->mantissa = mantissa;
    number->exponent = exponent;
    number->is_cut = dropped > 0;
    return at;
}

#endif
