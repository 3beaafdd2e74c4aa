/* Rows of a table straight from the pages of a SQLite file: those that a rosbag2 recorder writes,
 * (NULL for the rowid, integer, integer, blob). Anything else is for SQLite itself to judge.
 *
 * Source: https://www.sqlite.org/fileformat2.html
 */
#include "growing.h"

enum { INTERIOR = 5, LEAF = 13, INTERIOR_HEAD = 12, LEAF_HEAD = 8, MOST_DEPTH = 20, FILE_HEAD = 100 };
enum { SOUND = 0, NOT_SOUND = 1, NO_MEMORY = 2 };

static const int64_t LAST_ROWID = INT64_MAX;
static const uint8_t ZSTD_MAGIC[4] = {0x28, 0xb5, 0x2f, 0xfd};
/* Bytes of an integer by its serial type; 8 and 9 stand for 0 and 1, and the others are none. */
static const int8_t INTEGER_BYTES[10] = {-1, 1, 2, 3, 4, 6, 8, -1, 0, 0};

typedef struct {
    const uint8_t *data;
    int64_t page_bytes;
    int64_t usable; /* bytes of a page that hold content */
    int64_t count;  /* whole pages in the file */
} Database;

typedef struct {
    int64_t page, last_id, rows;
} Leaf;

/* A page that is being read: its cells lie between `head` and `usable`. */
typedef struct {
    const uint8_t *data;
    int64_t head, cells, cell_pointers;
} Page;

typedef struct {
    int64_t *id, *topic, *time_ns, *start, *size, *inline_size;
} Columns;

static int64_t big_endian(const uint8_t *data, int64_t bytes) {
    uint64_t value = 0;
    for (int64_t i = 0; i < bytes; i++) value = value << 8 | data[i];
    return (int64_t)value;
}

static int64_t signed_big_endian(const uint8_t *data, int64_t bytes) {
    if (!bytes) return 0;
    int shift = (int)(64 - 8 * bytes);
    return (int64_t)((uint64_t)big_endian(data, bytes) << shift) >> shift;
}

/* Read a varint at *at, which moves behind it; 0 where it does not end before `end`. */
static int read_varint(const uint8_t *data, int64_t *at, int64_t end, int64_t *value) {
    uint64_t found = 0;
    for (int i = 0; i < 8; i++) {
        if (*at >= end) return 0;
        uint8_t byte = data[(*at)++];
        found = found << 7 | (byte & 127);
        if (byte < 128) {
            *value = (int64_t)found;
            return 1;
        }
    }
    if (*at >= end) return 0;
    *value = (int64_t)(found << 8 | data[(*at)++]);
    return 1;
}

/* Look at a page; its kind, or 0 where it is not there or its cells can't be. */
static int read_page(const Database *db, int64_t number, Page *page) {
    if (number < 1 || number > db->count) return 0;
    page->data = db->data + (number - 1) * db->page_bytes;
    page->head = number == 1 ? FILE_HEAD : 0;
    int kind = page->data[page->head];
    if (kind != INTERIOR && kind != LEAF) return 0;
    page->cells = big_endian(page->data + page->head + 3, 2);
    page->cell_pointers = page->head + (kind == LEAF ? LEAF_HEAD : INTERIOR_HEAD);
    return page->cell_pointers + 2 * page->cells <= db->usable ? kind : 0;
}

/* Where a cell starts in its page; -1 where that is outside. */
static int64_t cell_start(const Database *db, const Page *page, int64_t cell) {
    int64_t start = big_endian(page->data + page->cell_pointers + 2 * cell, 2);
    return start >= page->cell_pointers && start <= db->usable - 4 ? start : -1;
}

/* The page below an interior page at a cell, or behind the last one; and the last rowid it holds.
 * Returns 0 where the cell makes no sense. */
static int read_child(const Database *db, const Page *page, int64_t cell, Leaf *child) {
    if (cell == page->cells) {
        child->page = big_endian(page->data + page->head + 8, 4);
        return 1; /* its last rowid is that of the page above */
    }
    int64_t at = cell_start(db, page, cell);
    if (at < 0) return 0;
    child->page = big_endian(page->data + at, 4);
    at += 4;
    return read_varint(page->data, &at, db->usable, &child->last_id);
}

static int append_leaf(Growing *leaves, Leaf leaf) {
    if (!growing_reserve(leaves, sizeof leaf)) return 0;
    memcpy(leaves->data + leaves->size, &leaf, sizeof leaf);
    leaves->size += sizeof leaf;
    return 1;
}

/* Append the leaf pages of a table in the order of rowids to `leaves`. In a sound tree all stand
 * at one depth, and no page is met twice: more visits than pages mean that the links run wild. */
int32_t sqlite_leaves(const Database *db, int64_t root, Growing *leaves) {
    struct {
        Page page;
        int64_t next, last_id;
    } path[MOST_DEPTH];
    int depth = 0, leaf_depth = -1;
    int64_t visits = 0;
    Leaf leaf = {root, LAST_ROWID, 0};
    for (;;) {
        if (depth == MOST_DEPTH || ++visits > db->count) return NOT_SOUND;
        int kind = read_page(db, leaf.page, &path[depth].page);
        if (!kind) return NOT_SOUND;
        if (kind == INTERIOR) {
            path[depth].next = 0;
            path[depth].last_id = leaf.last_id;
            depth++;
        } else {
            if (leaf_depth >= 0 && leaf_depth != depth) return NOT_SOUND;
            leaf_depth = depth;
            leaf.rows = path[depth].page.cells;
            if (!append_leaf(leaves, leaf)) return NO_MEMORY;
        }
        while (depth && path[depth - 1].next > path[depth - 1].page.cells) depth--;
        if (!depth) return SOUND;
        leaf.last_id = path[depth - 1].last_id;
        if (!read_child(db, &path[depth - 1].page, path[depth - 1].next++, &leaf)) return NOT_SOUND;
    }
}

/* How many bytes of a payload stand in its cell. */
static int64_t inline_bytes(const Database *db, int64_t payload) {
    int64_t most = db->usable - 35, least = (db->usable - 12) * 32 / 255 - 23;
    if (payload <= most) return payload;
    int64_t part = least + (payload - least) % (db->usable - 4);
    return part <= most ? part : least;
}

/* Read an integer column of a serial type at *at, which moves behind it. */
static int64_t read_integer(const uint8_t *data, int kind, int64_t *at) {
    int64_t value = kind == 9 ? 1 : signed_big_endian(data + *at, INTEGER_BYTES[kind]);
    *at += INTEGER_BYTES[kind];
    return value;
}

static int is_integer(int kind) { return kind < 10 && INTEGER_BYTES[kind] >= 0; }

/* Read the cell at `at` of a page as row `row`; 0 where it is no row that a recorder writes. */
static int read_row(const Database *db, const uint8_t *page, int64_t at, const Columns *out,
                    int64_t row) {
    int64_t payload, data_type, end = db->usable;
    if (!read_varint(page, &at, end, &payload) || !read_varint(page, &at, end, &out->id[row]))
        return 0;
    int64_t record = at;
    if (end - at < 5 || page[at + 1] != 0) return 0;
    int topic_type = page[at + 2], time_type = page[at + 3];
    at += 4;
    if (!is_integer(topic_type) || !is_integer(time_type)) return 0;
    if (!read_varint(page, &at, end, &data_type)) return 0;
    if (page[record] != at - record || data_type < 12 || data_type % 2) return 0;
    int64_t size = (data_type - 12) / 2;
    int64_t start = at + INTEGER_BYTES[topic_type] + INTEGER_BYTES[time_type];
    /* No payload is larger than the file that holds it, whatever it claims. */
    if (size > db->count * db->page_bytes || payload != start - record + size) return 0;
    int64_t held = inline_bytes(db, payload) - (start - record);
    if (held < 0 || start + held + (held < size ? 4 : 0) > end) return 0;
    out->topic[row] = read_integer(page, topic_type, &at);
    out->time_ns[row] = read_integer(page, time_type, &at);
    out->start[row] = page - db->data + start;
    out->size[row] = size;
    out->inline_size[row] = held;
    return 1;
}

/* Have the cells of a page fetched while those of the page before are read: each lies in memory
 * that nobody has touched for long, and waiting for one after the other is most of the time. */
static void fetch_ahead(const Database *db, int64_t number) {
    Page page;
    if (read_page(db, number, &page) != LEAF) return;
    for (int64_t cell = 0; cell < page.cells; cell++) {
        int64_t at = cell_start(db, &page, cell);
        if (at >= 0) __builtin_prefetch(page.data + at);
    }
}

/* Read the rows of leaf pages from rowid `first` on, at most `most` of them; `out` has room for
 * as many as the pages hold. *zstd counts those whose data begins as a zstd frame does.
 * Returns how many there are; -1 where one is not as a recorder writes it, or rowids don't rise
 * above 0 as they go. */
int64_t sqlite_rows(const Database *db, const Leaf *leaves, int64_t leaf_count, int64_t first,
                    int64_t most, const Columns *out, int64_t *zstd) {
    int64_t row = 0, last_id = 0;
    *zstd = 0;
    for (int64_t i = 0; i < leaf_count && row < most; i++) {
        Page page;
        if (i + 1 < leaf_count) fetch_ahead(db, leaves[i + 1].page);
        if (read_page(db, leaves[i].page, &page) != LEAF || page.cells != leaves[i].rows) return -1;
        for (int64_t cell = 0; cell < page.cells && row < most; cell++) {
            int64_t at = cell_start(db, &page, cell);
            if (at < 0 || !read_row(db, page.data, at, out, row)) return -1;
            if (out->id[row] <= last_id) return -1;
            last_id = out->id[row];
            if (last_id < first) continue; /* the next row takes its place */
            const uint8_t *data = db->data + out->start[row];
            *zstd += out->inline_size[row] >= 4 && !memcmp(data, ZSTD_MAGIC, 4);
            row++;
        }
    }
    return row;
}

/* Copy what of a payload lies in overflow pages, the first of which is named at `link`. */
static int copy_overflow(const Database *db, const uint8_t *link, uint8_t *out, int64_t left) {
    while (left) {
        int64_t number = big_endian(link, 4);
        if (number < 2 || number > db->count) return 0;
        const uint8_t *page = db->data + (number - 1) * db->page_bytes;
        int64_t held = left < db->usable - 4 ? left : db->usable - 4;
        memcpy(out, page + 4, (size_t)held);
        out += held;
        left -= held;
        link = page;
    }
    return big_endian(link, 4) == 0;
}

/* Copy payloads one behind the other to `out`, which has room for the sum of their sizes; rows
 * are as `sqlite_rows` has left them. Returns 0 where a chain of overflow pages does not end where
 * its payload does. */
int32_t sqlite_payloads(const Database *db, int64_t count, const int64_t *start,
                        const int64_t *size, const int64_t *inline_size, uint8_t *out) {
    for (int64_t row = 0; row < count; row++) {
        const uint8_t *data = db->data + start[row];
        int64_t held = inline_size[row], left = size[row] - held;
        memcpy(out, data, (size_t)held);
        if (left && !copy_overflow(db, data + held, out + held, left)) return 0;
        out += size[row];
    }
    return 1;
}
