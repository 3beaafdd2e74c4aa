/* Protocol Buffers messages into columns, in one pass over their bytes.

   What to do is compiled from the descriptors (encodings/protobuf_program.py): a list of fields for
   each message type at each place where it stands. Writers put fields in the order of their
   numbers, so the next field of the list is tried first.

   A message is either read, exactly as upb reads it, or left to upb: one that is damaged, for upb
   has the words for it, and one that holds what has no place in columns. Nothing of it stays.

   Source: https://protobuf.dev/programming-guides/encoding */
#include "protobuf_wire.h"
#include "utf8.h"

static const int64_t NS = 1000000000;

static Position read_message(Walk *walk, int32_t message, int64_t row, Position at, Position end,
                             uint32_t group);

/* Ends the work on the batch. */
static int stop(Walk *walk, int status) {
    walk->status = status;
    return 0;
}

static Position out_of(Walk *walk, int status) {
    walk->status = status;
    return NULL;
}

/* Values into columns */

/* Reads a number and puts it into its column. */
ALWAYS_INLINE Position read_number(Walk *walk, int32_t kind, Column *column, int64_t row,
                                   Position at, Position end) {
    uint64_t bits = 0;
    int is_put = 0;
    switch (kind) {
    case FIXED_4: case UNSIGNED_4:
        if (end - at < 4) return NULL;
        bits = load_4(at);
        at += 4;
        break;
    case FIXED_8: case UNSIGNED_8:
        if (end - at < 8) return NULL;
        bits = load_8(at);
        at += 8;
        break;
    default:
        at = read_varint(walk, at, end, &bits);
        if (!at) return NULL;
    }
    switch (kind) {
    case BOOL: is_put = put_bit(column, row, bits != 0); break;
    case SINT32: is_put = put_4(column, row, (uint32_t)unfold((uint32_t)bits)); break;
    case INT32: case CLOSED_ENUM: case FIXED_4:
        is_put = put_4(column, row, (uint32_t)bits);
        break;
    case SINT64: is_put = put_8(column, row, unfold(bits)); break;
    case UINT32: case UNSIGNED_4: is_put = put_8(column, row, (uint32_t)bits); break;
    case UINT64: case UNSIGNED_8: is_put = put_16(column, row, bits); break;
    default: is_put = put_8(column, row, bits);
    }
    return is_put ? at : out_of(walk, ROWS_NO_MEMORY);
}

/* The same for a kind that is told as a constant in each case, so that one jump does it all. */
ALWAYS_INLINE Position read_any_number(Walk *walk, int32_t kind, Column *column, int64_t row,
                                       Position at, Position end) {
    switch (kind) {
    case INT32: case CLOSED_ENUM: return read_number(walk, INT32, column, row, at, end);
    case UINT32: return read_number(walk, UINT32, column, row, at, end);
    case INT64: return read_number(walk, INT64, column, row, at, end);
    case UINT64: return read_number(walk, UINT64, column, row, at, end);
    case SINT32: return read_number(walk, SINT32, column, row, at, end);
    case SINT64: return read_number(walk, SINT64, column, row, at, end);
    case BOOL: return read_number(walk, BOOL, column, row, at, end);
    case FIXED_4: return read_number(walk, FIXED_4, column, row, at, end);
    case UNSIGNED_4: return read_number(walk, UNSIGNED_4, column, row, at, end);
    case FIXED_8: return read_number(walk, FIXED_8, column, row, at, end);
    default: return read_number(walk, UNSIGNED_8, column, row, at, end);
    }
}

static int put_text(Walk *walk, const Field *field, Column *column, int64_t row, Position at,
                    Position end) {
    if (field->kind == STRING && !is_utf8(at, end)) return 0;
    int status;
    int64_t size = end - at;
    uint8_t *to = text_open(column, row, size, &status);
    if (!to) return stop(walk, status);
    if (size <= 8 && walk->limit - at >= 8)
        memcpy(to, at, 8);
    else
        memcpy(to, at, (size_t)size);
    text_keep(column, row, size);
    return 1;
}

/* Seconds and nanoseconds as one number; what stands differently than writers put it is left. */
static int put_instant(Walk *walk, Column *column, int64_t row, Position at, Position end) {
    int64_t parts[2] = {0, 0};
    for (int i = 0; i < 2; i++) {
        if (at >= end || *at != (i + 1) << 3) continue;
        uint64_t bits;
        at = read_varint(walk, at + 1, end, &bits);
        if (!at) return 0;
        parts[i] = i ? (int32_t)bits : (int64_t)bits;
    }
    int64_t instant;
    if (at != end || column->count > row || __builtin_mul_overflow(parts[0], NS, &instant) ||
        __builtin_add_overflow(instant, parts[1], &instant))
        return 0;
    return put_8(column, row, (uint64_t)instant) || stop(walk, ROWS_NO_MEMORY);
}

/* Maps */

/* The key as a number that sorts as the key does. */
static uint64_t sortable(int32_t kind, uint64_t bits) {
    const uint64_t sign = (uint64_t)1 << 63;
    switch (kind) {
    case BOOL: return bits != 0;
    case INT32: case FIXED_4: return (uint64_t)(int64_t)(int32_t)bits ^ sign;
    case SINT32: return (uint64_t)(int64_t)(int32_t)unfold((uint32_t)bits) ^ sign;
    case SINT64: return unfold(bits) ^ sign;
    case UINT32: case UNSIGNED_4: return (uint32_t)bits;
    case UINT64: case UNSIGNED_8: return bits;
    default: return bits ^ sign;
    }
}

static int by_key(const void *one, const void *other) {
    const Entry *a = one, *b = other;
    if (a->text && b->text) {
        uint64_t shared = a->key < b->key ? a->key : b->key;
        int order = memcmp(a->text, b->text, shared);
        if (order) return order;
    }
    if (a->key != b->key) return a->key < b->key ? -1 : 1;
    return a->ordinal < b->ordinal ? -1 : a->ordinal > b->ordinal;
}

static int is_same_key(const Entry *a, const Entry *b) {
    return a->key == b->key && (!a->text || !memcmp(a->text, b->text, a->key));
}

/* Finds the key of an entry of which the key and the value each stand there at most once. */
static int find_key(const Walk *walk, const Map *map, Entry *entry) {
    static const uint8_t empty[1] = {0};
    const Message *message = walk->program.messages + map->message;
    const Field *key = walk->program.fields + message->first, *value = key + 1;
    Position at = entry->at;
    uint32_t seen = 0;
    uint64_t bits = 0, other;
    entry->text = key->kind == STRING ? empty : NULL;
    while (at < entry->end) {
        uint32_t tag;
        at = read_tag(walk, at, entry->end, &tag);
        if (!at) return 0;
        uint32_t number = tag >> 3;
        const Field *field = number == 1 ? key : value;
        if (number > 2 || (tag & 7) != (uint32_t)field->wire || seen & number) return 0;
        seen |= number;
        if (number == 2 && value->kind == CLOSED_ENUM) {
            at = read_varint(walk, at, entry->end, &other);
            if (!at || !is_value(walk, value, (uint32_t)other)) return 0;
        } else if (number == 2) {
            at = skip_value(walk, tag & 7, at, entry->end);
        } else if (entry->text) {
            Position end = entry->end;
            entry->text = read_span(walk, at, &end);
            bits = entry->text ? (uint64_t)(end - entry->text) : 0;
            at = entry->text ? end : NULL;
        } else {
            at = read_bits(walk, key->wire, at, entry->end, &bits);
        }
        if (!at) return 0;
    }
    entry->key = entry->text ? bits : sortable(key->kind, bits);
    /* Without a value it is the default, which of an enumeration need not be zero. */
    return seen & 2 || (value->kind != CLOSED_ENUM && value->kind != LEFT);
}

static int take_in(Walk *walk, Map *map);

/* Takes in what the maps of some columns still hold; those inside others come behind these. */
static int settle(Walk *walk, int32_t first, int32_t end) {
    for (int32_t i = 0; i < walk->program.map_count; i++) {
        Map *map = walk->program.maps + i;
        if (map->column < first || map->column >= end || !map->entries.size) continue;
        if (!take_in(walk, map)) return 0;
    }
    return 1;
}

/* Cuts off what columns have of a row, once it is known to be sound. */
static int drop(Walk *walk, int32_t first, int32_t end, int64_t row) {
    if (!settle(walk, first, end)) return 0;
    rows_cut(walk->program.columns, first, end, row);
    return 1;
}

/* A field of a oneof takes the place of the one that was there before. */
static int choose(Walk *walk, const Field *field, int64_t row) {
    Choice *choice = walk->program.choices + field->choice;
    int32_t other = (int32_t)choice->column;
    if (choice->row == row && other != field->column &&
        !drop(walk, other, walk->program.columns[other].end, row))
        return 0;
    choice->row = row;
    choice->column = field->column;
    return 1;
}

/* Takes the entries of a row in: by key, the last of each. */
static int take_in(Walk *walk, Map *map) {
    Column *list = walk->program.columns + map->column;
    int64_t count = map->entries.size / (int64_t)sizeof(Entry), row = map->row;
    Entry *entries = (Entry *)(void *)map->entries.data;
    map->entries.size = 0;
    qsort(entries, (size_t)count, sizeof(Entry), by_key);
    if (!column_ready(list, row)) return stop(walk, ROWS_NO_MEMORY);
    for (int64_t i = 0; i < count; i++) {
        int64_t element = list->elements;
        if (!read_message(walk, map->message, element, entries[i].at, entries[i].end, 0)) return 0;
        if (i + 1 < count && is_same_key(entries + i, entries + i + 1)) {
            if (!drop(walk, map->column + 1, list->end, element)) return 0;
        } else if (!list_extend(list, row, 1)) {
            return stop(walk, ROWS_TOO_LARGE);
        }
    }
    return 1;
}

static int add_entry(Walk *walk, Map *map, int64_t row, Position at, Position end) {
    if (map->entries.size && map->row != row && !take_in(walk, map)) return 0;
    if (walk->program.columns[map->column].count > row && !map->entries.size) return 0;
    map->row = row;
    int64_t ordinal = map->entries.size;
    Entry entry = {.at = at, .end = end, .ordinal = ordinal};
    if (!find_key(walk, map, &entry)) return 0;
    if (!growing_reserve(&map->entries, sizeof entry))
        return stop(walk, ROWS_NO_MEMORY);
    memcpy(map->entries.data + ordinal, &entry, sizeof entry);
    map->entries.size += (int64_t)sizeof entry;
    return 1;
}

/* Fields */

/* A value of a closed enumeration: one that it does not have counts as an unknown field. */
static Position skip_foreign(const Walk *walk, const Field *field, Position at, Position end) {
    uint64_t bits;
    Position after = read_varint(walk, at, end, &bits);
    return after && !is_value(walk, field, (uint32_t)bits) ? after : NULL;
}

/* Numbers in one run of bytes. */
static Position read_packed(Walk *walk, const Field *field, int64_t row, Position at,
                            Position end) {
    Column *list = walk->program.columns + field->column, *element = list + 1;
    at = read_span(walk, at, &end);
    if (!at) return NULL;
    if (!column_ready(list, row)) return out_of(walk, ROWS_NO_MEMORY);
    int64_t first = list->elements, next = first;
    if (field->kind == FIXED_8 || field->kind == FIXED_4) {
        int64_t width = field->kind == FIXED_8 ? 8 : 4, count = (end - at) / width;
        if (count * width != end - at) return NULL;
        if (count && (!column_open(element, first) ||
                      (first + count > element->room && !column_grow(element, first + count))))
            return out_of(walk, ROWS_NO_MEMORY);
        if (count) memcpy(element->values.data + first * width, at, (size_t)(end - at));
        at = end;
        next += count;
        if (count) element->count = next;
    }
    while (at < end) {
        Position after = field->kind == CLOSED_ENUM ? skip_foreign(walk, field, at, end) : NULL;
        if (!after) after = read_any_number(walk, field->kind, element, next++, at, end);
        if (!after) return NULL;
        at = after;
    }
    return list_extend(list, row, next - first) ? end : out_of(walk, ROWS_TOO_LARGE);
}

/* The value of a field, or one of its values, into a row of its own column. */
static inline Position read_value(Walk *walk, const Field *field, Column *column, int64_t row,
                                  Position at, Position end) {
    if (field->kind < STRING) return read_any_number(walk, field->kind, column, row, at, end);
    if (field->kind == GROUPED || field->kind == MESSAGE) {
        if (!column_ready(column, row)) return out_of(walk, ROWS_NO_MEMORY);
        column_keep(column, row);
        if (field->kind == GROUPED)
            return read_message(walk, field->message, row, at, end, field->number);
    }
    at = read_span(walk, at, &end);
    if (!at) return NULL;
    int is_read;
    switch (field->kind) {
    case MESSAGE: return read_message(walk, field->message, row, at, end, 0);
    case INSTANT: is_read = put_instant(walk, column, row, at, end); break;
    case MAP: is_read = add_entry(walk, walk->program.maps + field->message, row, at, end); break;
    default: is_read = put_text(walk, field, column, row, at, end);
    }
    return is_read ? end : NULL;
}

static Position read_element(Walk *walk, const Field *field, int64_t row, Position at,
                             Position end) {
    Column *list = walk->program.columns + field->column;
    if (!column_ready(list, row)) return out_of(walk, ROWS_NO_MEMORY);
    at = read_value(walk, field, list + 1, list->elements, at, end);
    if (at && !list_extend(list, row, 1)) return out_of(walk, ROWS_TOO_LARGE);
    return at;
}

static inline Position read_field(Walk *walk, const Field *field, uint32_t wire, uint32_t tag,
                                  int64_t row, Position at, Position end) {
    if (wire != (uint32_t)field->wire) {
        if (field->kind >= MESSAGE) return NULL; /* upb takes some of these, not all */
        if (wire == LENGTH && field->is_repeated && field->kind < STRING)
            return read_packed(walk, field, row, at, end);
        return skip_field(walk, tag, at, end);
    }
    if (field->kind == LEFT) return NULL;
    if (field->kind == CLOSED_ENUM) {
        Position after = skip_foreign(walk, field, at, end);
        if (after) return after;
    }
    if (field->choice >= 0 && !choose(walk, field, row)) return NULL;
    if (field->is_repeated && field->kind != MAP) return read_element(walk, field, row, at, end);
    return read_value(walk, field, walk->program.columns + field->column, row, at, end);
}

static const Field *find_field(const Program *program, const Message *message, uint32_t number) {
    const Field *fields = program->fields + message->first;
    if (number < (uint32_t)message->table_size) {
        int32_t place = program->tables[message->table + (int32_t)number];
        return place < 0 ? NULL : fields + place;
    }
    int32_t low = 0, high = message->count;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (fields[middle].number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low < message->count && fields[low].number == number ? fields + low : NULL;
}

/* Messages */

static Position read_message(Walk *walk, int32_t which, int64_t row, Position at, Position end,
                             uint32_t group) {
    const Message *message = walk->program.messages + which;
    const Field *next = walk->program.fields + message->first;
    while (at < end) {
        const Field *field = NULL;
        uint32_t tag = 0;
        if (walk->limit - at >= 8) {
            uint64_t word = load_8(at);
            if ((word & next->mask) == next->tag)
                field = next;
            else if ((word & next[1].mask) == next[1].tag)
                field = next + 1;
        }
        if (field && field->is_plain) {
            Column *column = walk->program.columns + field->column;
            next = field + 1;
            at = read_any_number(walk, field->kind, column, row, at + field->tag_bytes, end);
            if (!at) return NULL;
            continue;
        }
        if (field) {
            at += field->tag_bytes;
            tag = (uint32_t)field->tag & 7; /* is asked for its wire type only: it is known */
        } else {
            at = read_tag(walk, at, end, &tag);
            if (!at) return NULL;
            if ((tag & 7) == GROUP_END) return tag >> 3 == group ? at : NULL;
            field = find_field(&walk->program, message, tag >> 3);
        }
        if (field) {
            next = field->is_repeated ? field : field + 1;
            at = read_field(walk, field, tag & 7, tag, row, at, end);
        } else {
            at = message->is_open ? NULL : skip_field(walk, tag, at, end);
        }
        if (!at) return NULL;
    }
    return group ? NULL : at == end ? at : NULL;
}

static int read_one(Walk *walk, int64_t row, Position at, Position end) {
    return read_message(walk, 0, row, at, end, 0) && settle(walk, 0, walk->program.column_count);
}

/* Reads `count` messages; `is_left` says of each whether another parser is to take it.
   Returns how many rows there are, or a status below zero. */
int64_t protobuf_read(const Program *program, const uint8_t *arena, int64_t size,
                      const int64_t *starts, const int64_t *lengths, int64_t count,
                      uint8_t *is_left) {
    Walk walk = {.program = *program, .limit = arena + size};
    int64_t row = 0;
    for (int64_t i = 0; i < count; i++) {
        int is_inside = starts[i] >= 0 && lengths[i] >= 0 && lengths[i] <= size &&
                        starts[i] <= size - lengths[i];
        Position at = arena + (is_inside ? starts[i] : 0);
        is_left[i] = !is_inside || !read_one(&walk, row, at, at + lengths[i]);
        if (walk.status) return walk.status;
        if (!is_left[i]) {
            row++;
            continue;
        }
        for (int32_t j = 0; j < program->map_count; j++) program->maps[j].entries.size = 0;
        rows_cut(program->columns, 0, program->column_count, row);
    }
    return rows_finish(program->columns, program->column_count, row) ? row : ROWS_NO_MEMORY;
}

/* Gives back what the maps of a program still hold. */
void protobuf_done(const Program *program) {
    for (int32_t i = 0; i < program->map_count; i++) free(program->maps[i].entries.data);
}
