/* JSON texts into the columns that a JSON Schema gives them, in one pass over their bytes.

   What stands where is compiled from the schema (encodings/json_program.py): a node for each
   column. Writers put properties in the same order each time, so the next one is tried first.

   A text is either read, exactly as json.loads and the rules of encodings/json_text.py have it, or
   left to these: one that is bad, for they have the words for it, and whatever is rare (NaN, names
   with escapes, names that come twice, numbers beyond int64). Nothing of it stays.

   Source: RFC 8259 */
#include "decimal.h"
#include "rows.h"
#include "utf8.h"

typedef enum { OBJECT, ARRAY, NUMBER, INTEGER, STRING, BOOLEAN, TEXT } Kind;

enum { MAX_NESTING = 64, MAX_WHOLE_DIGITS = 4000, COMPARED_NAMES = 8 };

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

/* What is to be known of a string or of any value. */
typedef struct {
    int has_escapes;
    int has_surrogates;
    int is_canonical; /* the bytes are what json.dumps would write */
} Look;

/* Readers return where they stand behind what they have read, or NULL: the text is left. */
typedef const uint8_t *Position;

static Position read_value(Walk *walk, int32_t column, int64_t row, Position at, Position end);

static int stop(Walk *walk, int status) {
    walk->status = status;
    return 0;
}

static Position out_of(Walk *walk, int status) {
    walk->status = status;
    return NULL;
}

/* Parts of a text */

static inline Position skip_space(Position at, Position end) {
    while (at < end && (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t')) at++;
    return at;
}

static inline Position expect(Position at, Position end, const char *word, int64_t size) {
    return end - at >= size && !memcmp(at, word, (size_t)size) ? at + size : NULL;
}

static int hex_value(uint8_t c) {
    if (c >= '0' && c <= '9') return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The number of four hexadecimal digits, or -1. */
static int32_t hex_4(Position at, Position end) {
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
static uint8_t *unescape(uint8_t *to, Position at, Position end) {
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
static int is_canonical_number(const Decimal *number, Position at, Position end) {
    if (number->is_whole) return number->mantissa || !number->is_negative;
    if (number->is_cut || end - at > 16 || memchr(at, 'e', (size_t)(end - at)) ||
        memchr(at, 'E', (size_t)(end - at)))
        return 0;
    at += number->is_negative;
    return end[-1] != '0' && (end - at < 6 || memcmp(at, "0.0000", 6) != 0);
}

/* Goes over any value; what it holds is valid, and as json.dumps writes it if the look says so. */
static Position scan_value(Position at, Position end, Look *look) {
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
