/* JSON texts into the columns that a JSON Schema gives them, in one pass over their bytes.

   What stands where is compiled from the schema (encodings/json_program.py): a node for each
   column. Writers put properties in the same order each time, so the next one is tried first.

   A text is either read, exactly as json.loads and the rules of encodings/json_text.py have it, or
   left to these: one that is bad, for they have the words for it, and whatever is rare (NaN, names
   with escapes, names that come twice, numbers beyond int64). Nothing of it stays.

   Source: RFC 8259 */
#include "json_scan.h"
#include "rows.h"

typedef enum { OBJECT, ARRAY, NUMBER, INTEGER, STRING, BOOLEAN, TEXT } Kind;

enum { COMPARED_NAMES = 8 };

/* A column, or the whole message: what may stand in it. */
typedef struct {
    int32_t kind;
    int32_t first; /* of an object: its named properties */
    int32_t count;
    int32_t more; /* of an object: column of its other properties, or -1: it may have none */
    int32_t table;
    int32_t table_mask; /* one less than a power of two: places by hash, -1 where nothing is */
} Node;

typedef struct {
    int32_t name; /* where its bytes are */
    int32_t length;
    int32_t column;
} Property;

typedef struct {
    const Node *nodes;
    const Property *properties;
    const uint8_t *names;
    const int32_t *tables;
    const uint64_t *powers; /* of ten, as decimal.h has them */
    Column *columns;
    int32_t column_count;
    int32_t root;
} Program;

typedef struct {
    Program program;
    int status;
} Walk;

static Position read_value(Walk *walk, int32_t column, int64_t row, Position at, Position end);

static int stop(Walk *walk, int status) {
    walk->status = status;
    return 0;
}

static Position out_of(Walk *walk, int status) {
    walk->status = status;
    return NULL;
}

/* Values into columns */

static Position read_number(Walk *walk, Column *column, int64_t row, int32_t kind, Position at,
                            Position end) {
    Decimal number;
    double value = 0;
    int64_t whole;
    at = read_decimal(at, end, &number);
    if (!at) return NULL;
    if (kind == INTEGER && number.is_whole) {
        uint64_t limit = (uint64_t)INT64_MAX + (number.is_negative ? 1 : 0);
        if (number.is_cut || number.mantissa > limit) return NULL;
        whole = (int64_t)(number.is_negative ? 0 - number.mantissa : number.mantissa);
    } else {
        if (number.is_whole && !number.mantissa) number.is_negative = 0;
        if (!nearest_double(walk->program.powers, &number, &value)) return NULL;
        if (kind == INTEGER) {
            if (!(value >= -0x1p63 && value < 0x1p63) || (double)(int64_t)value != value)
                return NULL;
            whole = (int64_t)value;
        } else {
            memcpy(&whole, &value, 8);
        }
    }
    return put_8(column, row, (uint64_t)whole) ? at : out_of(walk, ROWS_NO_MEMORY);
}

static Position read_string(Walk *walk, Column *column, int64_t row, Position at, Position end) {
    Look look = {0, 0, 0};
    Position close = scan_string(at, end, &look);
    if (!close) return NULL;
    int64_t size = close - at;
    int status;
    uint8_t *to = text_open(column, row, size, &status);
    if (!to) return out_of(walk, status);
    if (look.has_escapes) {
        uint8_t *after = unescape(to, at, close);
        if (!after) return NULL;
        size = after - to;
    } else if (size <= 8 && end - at >= 8) {
        memcpy(to, at, 8);
    } else {
        memcpy(to, at, (size_t)size);
    }
    text_keep(column, row, size);
    return close + 1;
}

static Position read_boolean(Walk *walk, Column *column, int64_t row, Position at, Position end) {
    int is_true = *at == 't';
    at = is_true ? expect(at, end, "true", 4) : expect(at, end, "false", 5);
    if (at && !put_bit(column, row, is_true)) return out_of(walk, ROWS_NO_MEMORY);
    return at;
}

/* A value of any type as its own text. */
static Position read_text(Walk *walk, Column *column, int64_t row, Position at, Position end) {
    Look look = {0, 0, 1};
    Position after = scan_value(at, end, &look);
    if (!after || look.has_surrogates) return NULL;
    int status;
    uint8_t *to = text_open(column, row, after - at, &status);
    if (!to) return out_of(walk, status);
    memcpy(to, at, (size_t)(after - at));
    text_keep(column, row, after - at);
    if (!look.is_canonical) column->is_raw = 1;
    return after;
}

/* Other properties of an object: one text of all, written piece by piece */

typedef struct {
    Position names[COMPARED_NAMES];
    int64_t lengths[COMPARED_NAMES];
    int64_t count;
    int64_t start; /* of the text */
} Others;

static int append(Walk *walk, Column *column, const void *data, int64_t size) {
    if (column->values.size + size > INT32_MAX) return stop(walk, ROWS_TOO_LARGE);
    if (!growing_reserve(&column->values, size + 8)) return stop(walk, ROWS_NO_MEMORY);
    memcpy(column->values.data + column->values.size, data, (size_t)size);
    column->values.size += size;
    return 1;
}

static int is_again(const Others *others, Position name, int64_t length) {
    for (int64_t i = 0; i < others->count && i < COMPARED_NAMES; i++)
        if (others->lengths[i] == length && !memcmp(others->names[i], name, (size_t)length))
            return 1;
    return others->count >= COMPARED_NAMES;
}

/* Takes in one property more, from its name, which ends at a quote, to behind its value. */
static Position add_other(Walk *walk, Column *column, int64_t row, Others *others, Position name,
                          int64_t length, Position at, Position end) {
    Look look = {0, 0, 1};
    Position after = scan_value(at, end, &look);
    if (!after || look.has_surrogates) return NULL;
    if (!others->count) {
        if (!column_ready(column, row)) return out_of(walk, ROWS_NO_MEMORY);
        others->start = column->values.size = offsets_of(column)[row];
    }
    if (!look.is_canonical || is_again(others, name, length)) column->is_raw = 1;
    if (others->count < COMPARED_NAMES) {
        others->names[others->count] = name;
        others->lengths[others->count] = length;
    }
    int is_put = append(walk, column, others->count++ ? ",\"" : "{\"", 2) &&
                 append(walk, column, name, length) && append(walk, column, "\":", 2) &&
                 append(walk, column, at, after - at);
    return is_put ? after : NULL;
}

static int keep_others(Walk *walk, Column *column, int64_t row, const Others *others) {
    if (!others->count) return 1;
    if (!append(walk, column, "}", 1)) return 0;
    text_keep(column, row, column->values.size - others->start);
    return 1;
}

/* Objects and arrays */

static inline int is_property(const Walk *walk, const Property *property, Position name,
                              int64_t length) {
    return property->length == length &&
           !memcmp(walk->program.names + property->name, name, (size_t)length);
}

static const Property *find_property(const Walk *walk, const Node *node, Position name,
                                     int64_t length) {
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (int64_t i = 0; i < length; i++) hash = (hash ^ name[i]) * 16777619u;
    const int32_t *table = walk->program.tables + node->table;
    for (uint32_t i = 0; i <= (uint32_t)node->table_mask; i++) {
        int32_t place = table[(hash + i) & (uint32_t)node->table_mask];
        if (place < 0) return NULL;
        const Property *found = walk->program.properties + node->first + place;
        if (is_property(walk, found, name, length)) return found;
    }
    return NULL;
}

/* Reads an object from behind its brace. */
static Position read_object(Walk *walk, int32_t which, int64_t row, Position at, Position end) {
    const Node *node = walk->program.nodes + which;
    const Property *next = walk->program.properties + node->first, *last = next + node->count;
    Others others = {.count = 0, .start = 0};
    at = skip_space(at, end);
    int is_first = 1;
    for (;; is_first = 0) {
        if (at >= end) return NULL;
        if (*at == '}' && is_first) return at + 1;
        if (!is_first) {
            if (*at == '}') break;
            if (*at != ',') return NULL;
            at = skip_space(at + 1, end);
            if (at >= end) return NULL;
        }
        if (*at++ != '"') return NULL;
        Position name = at;
        int64_t length;
        const Property *property;
        if (next < last && end - at > next->length && at[next->length] == '"' &&
            is_property(walk, next, name, next->length)) {
            property = next;
            length = next->length;
        } else {
            Look look = {0, 0, 0};
            Position close = scan_string(at, end, &look);
            if (!close || look.has_escapes) return NULL;
            length = close - name;
            property = find_property(walk, node, name, length);
        }
        at = skip_space(at + length + 1, end);
        if (at >= end || *at != ':') return NULL;
        at = skip_space(at + 1, end);
        if (property) {
            if (walk->program.columns[property->column].count > row) return NULL;
            at = read_value(walk, property->column, row, at, end);
            next = property + 1;
        } else {
            if (node->more < 0) return NULL;
            at = add_other(walk, walk->program.columns + node->more, row, &others, name, length,
                           at, end);
        }
        if (!at) return NULL;
        at = skip_space(at, end);
    }
    if (others.count && !keep_others(walk, walk->program.columns + node->more, row, &others))
        return NULL;
    return at + 1;
}

/* Reads an array from behind its bracket. */
static Position read_array(Walk *walk, int32_t which, int64_t row, Position at, Position end) {
    Column *list = walk->program.columns + which;
    if (!column_ready(list, row)) return out_of(walk, ROWS_NO_MEMORY);
    list_extend(list, row, 0);
    at = skip_space(at, end);
    if (at < end && *at == ']') return at + 1;
    for (;;) {
        at = read_value(walk, which + 1, list->elements, at, end);
        if (!at) return NULL;
        if (!list_extend(list, row, 1)) return out_of(walk, ROWS_TOO_LARGE);
        at = skip_space(at, end);
        if (at >= end) return NULL;
        if (*at == ']') return at + 1;
        if (*at != ',') return NULL;
        at = skip_space(at + 1, end);
    }
}

static Position read_value(Walk *walk, int32_t which, int64_t row, Position at, Position end) {
    Column *column = walk->program.columns + which;
    if (at >= end) return NULL;
    if (*at == 'n') return expect(at, end, "null", 4);
    int32_t kind = walk->program.nodes[which].kind;
    switch (kind) {
    case NUMBER: case INTEGER: return read_number(walk, column, row, kind, at, end);
    case BOOLEAN: return read_boolean(walk, column, row, at, end);
    case STRING: return *at == '"' ? read_string(walk, column, row, at + 1, end) : NULL;
    case ARRAY: return *at == '[' ? read_array(walk, which, row, at + 1, end) : NULL;
    case TEXT: return read_text(walk, column, row, at, end);
    default: break;
    }
    if (*at != '{') return NULL;
    if (!column_ready(column, row)) return out_of(walk, ROWS_NO_MEMORY);
    column_keep(column, row);
    return read_object(walk, which, row, at + 1, end);
}

static int read_one(Walk *walk, int64_t row, Position at, Position end) {
    at = skip_space(at, end);
    if (at >= end || *at != '{') return 0;
    at = read_object(walk, walk->program.root, row, at + 1, end);
    return at && skip_space(at, end) == end;
}

/* Takes a text of any kind whole, if it is valid. */
static int take_text(Walk *walk, int64_t row, Position at, Position end) {
    Look look = {0, 0, 0};
    Position value = skip_space(at, end), after = value < end ? scan_value(value, end, &look) : NULL;
    if (!after || skip_space(after, end) != end) return 0;
    int status;
    uint8_t *to = text_open(walk->program.columns, row, end - at, &status);
    if (!to) return stop(walk, status);
    memcpy(to, at, (size_t)(end - at));
    text_keep(walk->program.columns, row, end - at);
    return 1;
}

/* Reads `count` texts; `is_left` says of each whether another parser is to take it. Without a root
   there is one column, of the texts themselves.
   Returns how many rows there are, or a status below zero. */
int64_t json_read(const Program *program, const uint8_t *arena, int64_t size,
                  const int64_t *starts, const int64_t *lengths, int64_t count, uint8_t *is_left) {
    Walk walk = {.program = *program, .status = 0};
    int64_t row = 0;
    for (int64_t i = 0; i < count; i++) {
        int is_read = starts[i] >= 0 && lengths[i] >= 0 && lengths[i] <= size &&
                      starts[i] <= size - lengths[i];
        if (is_read) {
            Position at = arena + starts[i], end = at + lengths[i];
            is_read = program->root < 0 ? take_text(&walk, row, at, end)
                                        : read_one(&walk, row, at, end);
        }
        if (walk.status) return walk.status;
        is_left[i] = !is_read;
        if (is_read)
            row++;
        else
            rows_cut(program->columns, 0, program->column_count, row);
    }
    return rows_finish(program->columns, program->column_count, row) ? row : ROWS_NO_MEMORY;
}
