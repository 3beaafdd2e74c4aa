/* CAN frames as columns: what records or readers say of each, put together in one pass. Taken in
   blocks, so that what is between the two stays at hand of the processor. */
#include "fields.h"

enum { BLOCK = 256 }; /* frames, a multiple of 8 */
enum { SAID_CONSTANT, SAID_NUMBERS, SAID_FLAGS, SAID_FIELD };
enum { ID, EXTENDED, FD, REMOTE, ERROR, DLC, LENGTH, SENT, BUS, ALL_SAID };
enum { OUTSIDE = -1, NO_FIELD = -2 };

/* One thing that is said of all frames; as `SAID` of can_columns.py. */
typedef struct {
    const void *values; /* int64 numbers, or bytes that are 0 or not */
    int64_t constant;
    int64_t kind;
    Field field; /* of the records */
} Said;

/* Frames as they come; as `SOURCE` of can_columns.py. */
typedef struct {
    Said said[ALL_SAID];
    int64_t is_raw;       /* ids with their flags, and the rest as a logger writes it */
    int64_t has_extended; /* else the id tells its kind */
    int64_t has_length;   /* else the data length code tells it */
    const uint8_t *records;
    int64_t stride, width;
    const uint8_t *arena; /* of payloads */
    int64_t arena_size;
    const int64_t *starts, *lengths; /* in the arena; NULL: payloads are in the records */
    int64_t first, size; /* of a payload in its record */
} Source;

/* As `Columns` of can_columns.py. */
typedef struct {
    int64_t *can_id;
    int32_t *bus, *dlc;
    int32_t *offsets; /* one more than frames */
    uint8_t *data;
    int64_t room; /* bytes of data, below 2^31 */
    uint8_t *flags[4]; /* bits: extended, FD, remote, error */
    int8_t *sent;
    int64_t negative[3]; /* frames without bus, id, code */
    int64_t sent_counts[3]; /* unknown, received, transmitted */
    int64_t bus_low, bus_high, longest;
} Columns;

typedef int64_t Block[ALL_SAID][BLOCK];

/* The word of each record that the last field was in: the next one is often in it, too. */
typedef struct {
    uint64_t words[BLOCK];
    int64_t first, start; /* byte in the record, and row; -1 for none */
} Window;

static const uint8_t DATA_LENGTHS[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 20, 24, 32, 48, 64};

static void load_field(const Source *source, const Field *field, int64_t start, int64_t rows,
                       Window *window, int64_t *restrict out) {
    const uint8_t *records = source->records + start * source->stride;
    int64_t end = field->byte_offset + field_span(field);
    int is_signed = field->kind == FIELD_SIGNED && field->bit_count;
    if (source->width < 8 || field->is_big_endian || is_signed || field_span(field) > 8) {
        whole_numbers(records, source->stride, source->width, rows, field, out);
        return;
    }
    int is_in = window->first >= 0 && field->byte_offset >= window->first &&
                end <= window->first + 8;
    if (!is_in || window->start != start) {
        int64_t last = source->width - 8;
        if (!is_in) window->first = field->byte_offset < last ? field->byte_offset : last;
        window->start = start;
        for (int64_t i = 0; i < rows; i++)
            window->words[i] = word_at(records + i * source->stride + window->first, 0);
    }
    uint64_t below = (uint64_t)(8 * (field->byte_offset - window->first) + field->bit_offset) & 63;
    uint64_t mask = mask_of(field->bit_count);
    for (int64_t i = 0; i < rows; i++) out[i] = (int64_t)(window->words[i] >> below & mask);
}

static void load(const Source *source, int which, int64_t start, int64_t rows, Window *window,
                 int64_t *out) {
    const Said *said = source->said + which;
    if (said->kind == SAID_NUMBERS)
        memcpy(out, (const int64_t *)said->values + start, (size_t)rows * 8);
    else if (said->kind == SAID_FLAGS)
        for (int64_t i = 0; i < rows; i++) out[i] = ((const uint8_t *)said->values)[start + i];
    else if (said->kind == SAID_FIELD)
        load_field(source, &said->field, start, rows, window, out);
    else
        for (int64_t i = 0; i < rows; i++) out[i] = said->constant;
}

/* Whether the bytes of every frame's payload are said. */
static int are_lengths_said(const Source *source, int64_t rows) {
    int which = source->has_length ? LENGTH : DLC;
    const Said *said = source->said + which;
    if (said->kind == SAID_FIELD && said->field.kind == FIELD_UNSIGNED &&
        said->field.bit_count < 64)
        return 1;
    int64_t numbers[BLOCK];
    Window window = {.first = -1};
    for (int64_t start = 0; start < rows; start += BLOCK) {
        int64_t some = rows - start < BLOCK ? rows - start : BLOCK;
        load(source, which, start, some, &window, numbers);
        for (int64_t i = 0; i < some; i++)
            if (numbers[i] < 0) return 0;
    }
    return 1;
}

/* What the fields of a logger's frames mean: the id without its flags, its kind, the data length
   code, the bytes that are kept of the payload, and the direction as 1, 0 or -1. */
static void complete(const Source *source, int all_said, int64_t rows, Block said,
                     int64_t *restrict lengths) {
    int64_t *restrict id = said[ID], *restrict code = said[DLC], *restrict bytes = said[LENGTH];
    if (!source->has_extended)
        for (int64_t i = 0; i < rows; i++)
            said[EXTENDED][i] = (id[i] >> 31 & 1) | ((id[i] & 0x1fffffff) > 0x7ff);
    for (int64_t i = 0; i < rows; i++) id[i] = id[i] < 0 ? -1 : id[i] & 0x1fffffff;
    if (!source->has_length)
        for (int64_t i = 0; i < rows; i++) {
            bytes[i] = code[i] < 0 ? -1 : DATA_LENGTHS[code[i] > 15 ? 15 : code[i]];
            if (!said[FD][i] && bytes[i] > 8) bytes[i] = 8;
        }
    for (int64_t i = 0; i < rows; i++) code[i] = code[i] < 0 ? bytes[i] : code[i];
    if (all_said)
        for (int64_t i = 0; i < rows; i++) lengths[i] = bytes[i] < lengths[i] ? bytes[i] : lengths[i];
}

static void set_bits(const int64_t *numbers, int64_t rows, uint8_t *bits) {
    for (int64_t start = 0; start < rows; start += 8) {
        int64_t some = rows - start < 8 ? rows - start : 8;
        unsigned byte = 0;
        for (int64_t i = 0; i < some; i++) byte |= (unsigned)(numbers[start + i] != 0) << i;
        bits[start / 8] = (uint8_t)byte;
    }
}

/* Numbers as int32; how many are negative. */
static int64_t put_short(const int64_t *numbers, int64_t rows, int32_t *restrict out) {
    int64_t negative = 0;
    for (int64_t i = 0; i < rows; i++) {
        out[i] = (int32_t)numbers[i];
        negative += numbers[i] < 0;
    }
    return negative;
}

static void put_directions(const int64_t *said, int64_t rows, int8_t *restrict out,
                           int64_t *counts) {
    int64_t received = 0, sent = 0;
    for (int64_t i = 0; i < rows; i++) {
        out[i] = (int8_t)((said[i] > 0) - (said[i] < 0));
        received += said[i] == 0;
        sent += said[i] > 0;
    }
    counts[0] += rows - received - sent;
    counts[1] += received;
    counts[2] += sent;
}

static void widen(const int64_t *numbers, int64_t rows, int64_t *least, int64_t *most) {
    int64_t low = *least, high = *most;
    for (int64_t i = 0; i < rows; i++) {
        low = numbers[i] < low ? numbers[i] : low;
        high = numbers[i] > high ? numbers[i] : high;
    }
    *least = low;
    *most = high;
}

static void put_numbers(const Source *source, Block said, int64_t start, int64_t rows,
                        Columns *out) {
    for (int i = EXTENDED; i <= ERROR; i++)
        if (i == EXTENDED || source->said[i].kind != SAID_CONSTANT)
            set_bits(said[i], rows, out->flags[i - EXTENDED] + start / 8);
    int64_t no_id = 0;
    for (int64_t i = 0; i < rows; i++) no_id += said[ID][i] < 0;
    memcpy(out->can_id + start, said[ID], (size_t)rows * 8);
    out->negative[0] += put_short(said[BUS], rows, out->bus + start);
    out->negative[1] += no_id;
    out->negative[2] += put_short(said[DLC], rows, out->dlc + start);
    widen(said[BUS], rows, &out->bus_low, &out->bus_high);
    put_directions(said[SENT], rows, out->sent + start, out->sent_counts);
}

/* Payloads of 8 bytes in records, as most are; where they end. */
static int64_t put_words(const Source *source, int64_t start, int64_t rows, int64_t at,
                         Columns *out) {
    const uint8_t *from = source->records + start * source->stride + source->first;
    uint8_t *data = out->data + at;
    int32_t *offsets = out->offsets + start + 1;
    for (int64_t i = 0; i < rows; i++) memcpy(data + 8 * i, from + i * source->stride, 8);
    for (int64_t i = 0; i < rows; i++) offsets[i] = (int32_t)(at + 8 * (i + 1));
    if (out->longest < 8) out->longest = 8;
    return at + 8 * rows;
}

/* Payloads behind those before; where they end, or OUTSIDE. */
static int64_t put_payloads(const Source *source, int64_t start, int64_t rows,
                            const int64_t *lengths, int64_t at, Columns *out) {
    int64_t least = INT64_MAX, most = INT64_MIN;
    widen(lengths, rows, &least, &most);
    if (!source->starts && least == 8 && most == 8 && 8 * rows <= out->room - at)
        return put_words(source, start, rows, at, out);
    for (int64_t i = 0; i < rows; i++) {
        int64_t row = start + i, length = lengths[i];
        const uint8_t *from;
        if (length < 0 || length > out->room - at) return OUTSIDE;
        if (source->starts) {
            int64_t first = source->starts[row], size = source->arena_size;
            if (length && (first < 0 || first > size || length > size - first)) return OUTSIDE;
            from = source->arena + first;
        } else {
            from = source->records + row * source->stride + source->first;
        }
        if (length == 8)
            memcpy(out->data + at, from, 8);
        else if (length)
            memcpy(out->data + at, from, (size_t)length);
        at += length;
        out->offsets[row + 1] = (int32_t)at;
    }
    if (most > out->longest) out->longest = most;
    return at;
}

/* Put `rows` frames into columns. Bytes of their payloads; OUTSIDE for a payload that is not in
   its arena or more than there is room for, NO_FIELD for a field that is not in the records. */
int64_t pack_frames(const Source *source, int64_t rows, Columns *out) {
    for (int i = 0; i < ALL_SAID; i++)
        if (source->said[i].kind == SAID_FIELD &&
            (!field_fits(&source->said[i].field, source->width) ||
             source->said[i].field.kind == FIELD_FLOAT))
            return NO_FIELD;
    if (!source->starts && source->size &&
        (source->first < 0 || source->size < 0 || source->first > source->width ||
         source->size > source->width - source->first))
        return NO_FIELD;
    int all_said = source->is_raw && are_lengths_said(source, rows);
    Block said;
    Window window = {.first = -1};
    int64_t lengths[BLOCK], at = 0;
    out->offsets[0] = 0;
    out->bus_low = INT64_MAX;
    out->bus_high = INT64_MIN;
    for (int i = FD; i <= ERROR; i++)
        if (source->said[i].kind == SAID_CONSTANT)
            memset(out->flags[i - EXTENDED], source->said[i].constant ? 0xff : 0,
                   (size_t)(rows + 7) / 8);
    for (int64_t start = 0; start < rows; start += BLOCK) {
        int64_t some = rows - start < BLOCK ? rows - start : BLOCK;
        for (int i = 0; i < ALL_SAID; i++) {
            int is_changed = i <= EXTENDED || i == DLC || i == LENGTH; /* by what completes them */
            if (!start || is_changed || source->said[i].kind != SAID_CONSTANT)
                load(source, i, start, some, &window, said[i]);
        }
        for (int64_t i = 0; i < some; i++)
            lengths[i] = source->lengths ? source->lengths[start + i] : source->size;
        if (source->is_raw) complete(source, all_said, some, said, lengths);
        put_numbers(source, said, start, some, out);
        at = put_payloads(source, start, some, lengths, at, out);
        if (at < 0) return at;
    }
    return at;
}

/* `Rx` and `Tx` for 0 and 1, nothing for what is negative: offsets of rows + 1, and the letters. */
void join_directions(const int8_t *sent, int64_t rows, int32_t *offsets, uint8_t *letters) {
    int64_t at = 0;
    offsets[0] = 0;
    for (int64_t i = 0; i < rows; i++) {
        letters[at] = sent[i] > 0 ? 'T' : 'R';
        letters[at + 1] = 'x';
        at += sent[i] < 0 ? 0 : 2;
        offsets[i + 1] = (int32_t)at;
    }
}
