/* CAN frames: put in the order of their ids, told apart by multiplexers, written as columns. */
#include <stdlib.h>

#include "fields.h"

#define EXTENDED_BIT 32
#define BUS_BIT 40
#define FIRST_SLOTS 1024
#define SORTED_AT_ONCE 1024
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

/* Number the keys (bus, kind of id, id) of `rows` < 2^31 frames in the order in which they occur:
   each frame's code (NO_CODE for one without data), each key and how many frames have it.
   How many keys there are; -1 where memory ran out. */
int64_t number_keys(const int64_t *bus, const int64_t *can_id, const uint8_t *is_extended,
                    const uint8_t *is_remote, const uint8_t *is_error, int64_t rows,
                    uint64_t seed, uint32_t *codes, int64_t *keys, int64_t *counts) {
    Table table = {0};
    int64_t found = 0;
    for (int64_t i = 0; i < rows; i++) {
        codes[i] = NO_CODE;
        if (is_remote[i] || is_error[i] || can_id[i] < 0) continue;
        uint64_t id = (uint64_t)can_id[i] + ((uint64_t)(is_extended[i] != 0) << EXTENDED_BIT);
        int64_t key = (int64_t)(id | ((uint64_t)bus[i] + 1) << BUS_BIT);
        if (2 * found >= table.size && !grow(&table, keys, found, seed)) {
            free(table.slots);
            return -1;
        }
        int64_t at = place_of(&table, key, seed);
        while (table.slots[at] && keys[table.slots[at] - 1] != key) at = (at + 1) & (table.size - 1);
        if (!table.slots[at]) {
            table.slots[at] = (uint32_t)found + 1;
            keys[found] = key;
            counts[found++] = 0;
        }
        codes[i] = table.slots[at] - 1;
        counts[codes[i]]++;
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

/* Where frames of a block go: their numbers, and their places among those that are wanted. */
typedef struct {
    int64_t frames[SORTED_AT_ONCE];
    int64_t places[SORTED_AT_ONCE];
    int64_t count;
} Sorted;

static void place_frames(const uint32_t *codes, int64_t start, int64_t rows, int64_t *cursors,
                         Sorted *sorted) {
    int64_t count = 0;
    for (int64_t i = start; i < start + rows; i++) {
        if (codes[i] == NO_CODE || cursors[codes[i]] < 0) continue;
        sorted->frames[count] = i;
        sorted->places[count++] = cursors[codes[i]]++;
    }
    sorted->count = count;
}

static void scatter(const int64_t *column, const Sorted *sorted, int64_t *out) {
    for (int64_t i = 0; i < sorted->count; i++) out[sorted->places[i]] = column[sorted->frames[i]];
}

/* Put frames in the order of their codes: `cursors` say where the frames of each code begin, -1
   for a code whose frames are not wanted. Block by block and in it column by column: all columns
   of all codes at once are more places to write to than a processor keeps at hand. */
void sort_frames(const uint32_t *codes, int64_t rows, int64_t *cursors, const int64_t *sequence,
                 const int64_t *log_time_ns, const int64_t *lengths, const int64_t *starts,
                 const uint8_t *arena, int64_t arena_size, int64_t width, int64_t *order,
                 int64_t *sequence_out, int64_t *time_out, int64_t *lengths_out,
                 uint8_t *payloads) {
    Sorted sorted;
    for (int64_t start = 0; start < rows; start += SORTED_AT_ONCE) {
        int64_t some = rows - start < SORTED_AT_ONCE ? rows - start : SORTED_AT_ONCE;
        place_frames(codes, start, some, cursors, &sorted);
        for (int64_t i = 0; i < sorted.count; i++) order[sorted.places[i]] = sorted.frames[i];
        scatter(sequence, &sorted, sequence_out);
        scatter(log_time_ns, &sorted, time_out);
        scatter(lengths, &sorted, lengths_out);
        for (int64_t i = 0; i < sorted.count; i++)
            copy_payload(arena, arena_size, starts[sorted.frames[i]], width,
                         payloads + sorted.places[i] * width);
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

/* Flags as a bitmap of Arrow. */
void pack_flags(const uint8_t *flags, int64_t rows, uint8_t *bits) {
    int64_t whole = rows / 8;
    for (int64_t i = 0; i < whole; i++) {
        uint64_t word;
        memcpy(&word, flags + 8 * i, 8);
        /* Flags are 0 or 1: the product brings each to its bit of the highest byte. */
        bits[i] = (uint8_t)((word * UINT64_C(0x0102040810204080)) >> 56);
    }
    if (rows % 8) bits[whole] = 0;
    for (int64_t i = 8 * whole; i < rows; i++) bits[whole] |= (uint8_t)((flags[i] & 1) << (i % 8));
}

/* Numbers as int32, and a bitmap of those that are not negative; how many are. */
int64_t pack_numbers(const int64_t *numbers, int64_t rows, int32_t *out, uint8_t *bits) {
    int64_t missing = 0;
    for (int64_t start = 0; start < rows; start += 8) {
        int64_t some = rows - start < 8 ? rows - start : 8;
        uint8_t there = 0;
        for (int64_t i = 0; i < some; i++) {
            int64_t number = numbers[start + i];
            if (out) out[start + i] = (int32_t)number;
            there |= (uint8_t)((number >= 0) << i);
        }
        bits[start / 8] = there;
        missing += some - __builtin_popcount(there);
    }
    return missing;
}

/* Payloads one behind the other; offsets of rows + 1. -1 where one is not in the arena or all are
   more than `room`. */
int64_t join_payloads(const uint8_t *arena, int64_t size, const int64_t *starts,
                      const int64_t *lengths, int64_t rows, int32_t *offsets, uint8_t *out,
                      int64_t room) {
    int64_t at = 0;
    offsets[0] = 0;
    for (int64_t i = 0; i < rows; i++) {
        int64_t length = lengths[i], start = starts[i];
        if (length < 0 || length > room - at) return -1;
        if (length && (start < 0 || start > size || length > size - start)) return -1;
        if (length == 8)
            memcpy(out + at, arena + start, 8);
        else if (length)
            memcpy(out + at, arena + start, (size_t)length);
        at += length;
        offsets[i + 1] = (int32_t)at;
    }
    return at;
}

/* `Rx` and `Tx` for 0 and 1, nothing for what is negative: offsets of rows + 1, and the letters.
   Bytes of them. */
int64_t join_directions(const int64_t *sent, int64_t rows, int32_t *offsets, uint8_t *letters) {
    int64_t at = 0;
    offsets[0] = 0;
    for (int64_t i = 0; i < rows; i++) {
        letters[at] = sent[i] > 0 ? 'T' : 'R';
        letters[at + 1] = 'x';
        at += sent[i] < 0 ? 0 : 2;
        offsets[i + 1] = (int32_t)at;
    }
    return at;
}

static const uint8_t DATA_LENGTHS[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 20, 24, 32, 48, 64};

/* What the fields of a logger's frames say of each: in place the id without its flags, the data
   length code and the direction (1, 0, or -1), and beside them the kind of id, the kind of frame
   and the bytes of its payload. `extended`, `length`: NULL where the logger has no such field.
   `stored`: the bytes that are kept of each payload; NULL where frames have none. */
void complete_frames(int64_t rows, int64_t *id, const int64_t *extended, const int64_t *fd,
                     int64_t *dlc, const int64_t *length, const int64_t *stored, int64_t *sent,
                     uint8_t *is_extended, uint8_t *is_fd, int64_t *lengths) {
    int all_said = 1;
    for (int64_t i = 0; i < rows; i++) {
        int64_t identity = id[i], low = identity & 0x1fffffff, code = dlc[i];
        is_extended[i] = extended ? extended[i] != 0 : (identity >> 31 & 1) || low > 0x7ff;
        is_fd[i] = fd[i] != 0;
        id[i] = identity < 0 ? -1 : low;
        int64_t bytes = code < 0 ? -1 : DATA_LENGTHS[code > 15 ? 15 : code];
        if (!is_fd[i] && bytes > 8) bytes = 8;
        if (length) bytes = length[i];
        all_said &= bytes >= 0;
        dlc[i] = code < 0 ? bytes : code;
        lengths[i] = bytes;
        sent[i] = sent[i] < 0 ? -1 : sent[i] > 0;
    }
    for (int64_t i = 0; i < rows; i++) {
        int64_t kept = stored ? stored[i] : 0;
        lengths[i] = all_said && lengths[i] < kept ? lengths[i] : kept;
    }
}
