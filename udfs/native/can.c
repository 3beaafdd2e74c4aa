/* CAN frames: put in the order of their ids, told apart by multiplexers, read by their messages. */
#include <stdlib.h>

#include "fields.h"

#define EXTENDED_BIT 32
#define BUS_BIT 40
#define FIRST_SLOTS 1024
#define SPARSE 4 /* places of a table for each key at least */
#define SHORT_IDS 2048
#define AHEAD 8
#define NO_CODE UINT32_MAX

typedef struct {
    uint32_t *slots; /* code + 1, 0 for none */
    int64_t size;    /* a power of two */
    int shift;
} Table;

/* A key's place; the seed is the process's own, so that no recording can make keys collide. */
static inline int64_t place_of(const Table *table, int64_t key, uint64_t seed) {
    uint64_t mixed = ((uint64_t)key ^ seed) * UINT64_C(0x9e3779b97f4a7c15);
    mixed = (mixed ^ mixed >> 32) * (seed | 1);
    return (int64_t)(mixed >> table->shift);
}

static int grow(Table *table, const int64_t *keys, int64_t count, uint64_t seed) {
    int64_t size = table->size ? 2 * table->size : FIRST_SLOTS;
    uint32_t *slots = calloc((size_t)size, sizeof *slots);
    if (!slots) return 0;
    free(table->slots);
    table->slots = slots;
    table->size = size;
    table->shift = 64 - __builtin_ctzll((uint64_t)size);
    for (int64_t code = 0; code < count; code++) {
        int64_t at = place_of(table, keys[code], seed);
        while (slots[at]) at = (at + 1) & (size - 1);
        slots[at] = (uint32_t)code + 1;
    }
    return 1;
}

static inline int bit_at(const uint8_t *bits, int64_t i) { return bits[i >> 3] >> (i & 7) & 1; }

/* Number the keys (bus, kind of id, id) of `rows` < 2^31 frames in the order in which they occur:
   each frame's code (NO_CODE for one without data), and of each key how many frames have it and
   the bytes of the shortest. How many keys there are; -1 where memory ran out. */
int64_t number_keys(const int32_t *bus, const int64_t *can_id, const uint8_t *extended,
                    const uint8_t *remote, const uint8_t *error, const int32_t *offsets,
                    int64_t rows, uint64_t seed, uint32_t *codes, int64_t *keys, int64_t *counts,
                    int64_t *shortest) {
    Table table = {0};
    uint32_t plain[SHORT_IDS] = {0}; /* code + 1 of the short ids of the first bus */
    int64_t found = 0;
    for (int64_t i = 0; i < rows; i++) {
        codes[i] = NO_CODE;
        if (bit_at(remote, i) | bit_at(error, i) || can_id[i] < 0) continue;
        int is_plain = !bit_at(extended, i) && can_id[i] < SHORT_IDS && bus[i] == bus[0];
        uint32_t code = is_plain ? plain[can_id[i]] : 0;
        if (!code) {
            uint64_t id = (uint64_t)can_id[i] + ((uint64_t)bit_at(extended, i) << EXTENDED_BIT);
            int64_t key = (int64_t)(id | ((uint64_t)bus[i] + 1) << BUS_BIT);
            if (SPARSE * found >= table.size && !grow(&table, keys, found, seed)) {
                free(table.slots);
                return -1;
            }
            int64_t at = place_of(&table, key, seed);
            while (table.slots[at] && keys[table.slots[at] - 1] != key)
                at = (at + 1) & (table.size - 1);
            if (!table.slots[at]) {
                table.slots[at] = (uint32_t)found + 1;
                keys[found] = key;
                shortest[found] = INT32_MAX;
                counts[found++] = 0;
            }
            code = table.slots[at];
            if (is_plain) plain[can_id[i]] = code;
        }
        codes[i] = --code;
        int64_t length = offsets[i + 1] - offsets[i];
        counts[code]++;
        if (length < shortest[code]) shortest[code] = length;
    }
    free(table.slots);
    return found;
}

/* Up to `width` bytes of a payload; zeros where the arena has none. */
static inline void copy_payload(const uint8_t *arena, int64_t size, int64_t start, int64_t width,
                                uint8_t *out) {
    if (start >= 0 && start <= size - width) {
        if (width == 8)
            memcpy(out, arena + start, 8);
        else
            memcpy(out, arena + start, (size_t)width);
        return;
    }
    int64_t there = start >= 0 && start < size ? size - start : 0;
    if (there) memcpy(out, arena + start, (size_t)there);
    memset(out + there, 0, (size_t)(width - there));
}

/* Put frames in the order of their codes: `cursors` say where the frames of each code begin, -1
   for a code whose frames are not wanted. `lengths_out`: NULL where nobody asks for them. */
void sort_frames(const uint32_t *codes, int64_t rows, int64_t *cursors, const int64_t *sequence,
                 const int64_t *log_time_ns, const int32_t *offsets, const uint8_t *data,
                 int64_t size, int64_t width, int64_t *sequence_out, int64_t *time_out,
                 int64_t *lengths_out, uint8_t *payloads) {
    for (int64_t i = 0; i < rows; i++) {
        if (codes[i] == NO_CODE || cursors[codes[i]] < 0) continue;
        int64_t place = cursors[codes[i]]++;
        /* Frames of each code go to lines of their own, more than a processor foresees. */
        __builtin_prefetch(sequence_out + place + AHEAD, 1);
        __builtin_prefetch(time_out + place + AHEAD, 1);
        __builtin_prefetch(payloads + (place + AHEAD) * width, 1);
        sequence_out[place] = sequence[i];
        time_out[place] = log_time_ns[i];
        if (lengths_out) lengths_out[place] = offsets[i + 1] - offsets[i];
        copy_payload(data, size, offsets[i], width, payloads + place * width);
    }
}

static int is_wanted(int64_t value, const int64_t *wanted, int64_t count) {
    int64_t low = 0;
    while (low < count) { /* ascending */
        int64_t middle = low + (count - low) / 2;
        if (wanted[middle] == value) return 1;
        if (wanted[middle] < value)
            low = middle + 1;
        else
            count = middle;
    }
    return 0;
}

static int64_t selector_value(const uint8_t *row, const Field *field) {
    uint64_t bits = field_bits(row, field);
    if (field->kind == FIELD_UNSIGNED) return (int64_t)bits;
    if (field->kind == FIELD_SIGNED) return signed_bits(bits, field->bit_count);
    double number = number_of(bits, field);
    return number > -9.2e18 && number < 9.2e18 ? (int64_t)number : INT64_MIN;
}

/* Rows whose payload is longer than `last_byte` and, where there is a selector, whose selector has
   one of the ascending values. Of all rows, or of those `among`. How many; -1 for a selector that
   is not in the payloads. */
int64_t carrying_rows(const uint8_t *payloads, int64_t width, const int64_t *lengths, int64_t rows,
                      const int64_t *among, int64_t among_count, int64_t last_byte,
                      const Field *selector, const int64_t *wanted, int64_t wanted_count,
                      int64_t *out) {
    if (selector && !field_fits(selector, width)) return -1;
    int64_t found = 0, count = among ? among_count : rows;
    for (int64_t i = 0; i < count; i++) {
        int64_t row = among ? among[i] : i;
        if (row < 0 || row >= rows || lengths[row] <= last_byte) continue;
        if (selector &&
            !is_wanted(selector_value(payloads + row * width, selector), wanted, wanted_count))
            continue;
        out[found++] = row;
    }
    return found;
}
