/* Records of a ROS 1 bag: a header of `name=value` fields and data, each behind its length.
 *
 * Source: ROS bag format 2.0, http://wiki.ros.org/Bags/Format/2.0
 */
#include "growing.h"

enum { OP_MESSAGE = 2, LINE = 64, AHEAD = 2048 };

typedef struct {
    const uint8_t *value;
    int64_t length; /* -1 where the header has no such field */
} Field;

typedef struct {
    int64_t header, header_length; /* where the fields are */
    int64_t start, length;         /* where the data is */
    Field op, conn, time;
} Record;

static uint32_t u32_at(const uint8_t *data) {
    uint32_t value;
    memcpy(&value, data, sizeof value);
    return value;
}

static int is_named(const uint8_t *name, int64_t length, const char *wanted) {
    return length == (int64_t)strlen(wanted) && !memcmp(name, wanted, (size_t)length);
}

/* Take the fields of a header; 0 where they don't add up. As in any mapping the last one counts. */
static int read_fields(const uint8_t *data, Record *record) {
    int64_t at = record->header, end = at + record->header_length;
    record->op.length = record->conn.length = record->time.length = -1;
    while (at < end) {
        if (end - at < 4) return 0;
        int64_t length = u32_at(data + at);
        const uint8_t *name = data + at + 4;
        if (length > end - at - 4) return 0;
        const uint8_t *equals = length ? memchr(name, '=', (size_t)length) : 0;
        if (!equals) return 0;
        Field value = {equals + 1, length - (equals + 1 - name)};
        if (is_named(name, equals - name, "op")) record->op = value;
        if (is_named(name, equals - name, "conn")) record->conn = value;
        if (is_named(name, equals - name, "time")) record->time = value;
        at += 4 + length;
    }
    return 1;
}

/* Read the record at `at`; 0 where the bytes from there are no whole record. */
static int read_record(const uint8_t *data, int64_t size, int64_t at, Record *record) {
    if (size - at < 8) return 0;
    record->header = at + 4;
    record->header_length = u32_at(data + at);
    record->start = at + 8 + record->header_length;
    if (record->start > size) return 0;
    record->length = u32_at(data + record->start - 4);
    return record->length <= size - record->start && read_fields(data, record);
}

static int is_op(const Record *record, int op) {
    return record->op.length == 1 && record->op.value[0] == op;
}

/* Have the bytes up to AHEAD behind `at` fetched, from `fetched` on: where a record is depends on
 * the length of the one before, so that the processor can't look ahead by itself. */
static int64_t fetch_ahead(const uint8_t *data, int64_t size, int64_t at, int64_t fetched) {
    int64_t end = at + AHEAD < size ? at + AHEAD : size;
    if (fetched < at) fetched = at;
    for (; fetched < end; fetched += LINE) __builtin_prefetch(data + fetched);
    return fetched;
}

/* Append (connection, start, length, time in ns) of all message records to `rows`, as int64.
 * Returns where it stopped: at `size`, or at the first bytes that are no record; -1 where memory
 * has run out. */
int64_t bag_messages(const uint8_t *data, int64_t size, Growing *rows) {
    int64_t at = 0, fetched = 0;
    Record record;
    while (at < size && read_record(data, size, at, &record)) {
        if (is_op(&record, OP_MESSAGE)) {
            if (record.conn.length != 4 || record.time.length != 8) break;
            const uint8_t *time = record.time.value;
            int64_t time_ns = u32_at(time) * INT64_C(1000000000) + u32_at(time + 4);
            int64_t row[4] = {u32_at(record.conn.value), record.start, record.length, time_ns};
            if (!growing_reserve(rows, sizeof row)) return -1;
            memcpy(rows->data + rows->size, row, sizeof row);
            rows->size += sizeof row;
        }
        at = record.start + record.length;
        fetched = fetch_ahead(data, size, at, fetched);
    }
    return at;
}

/* Find the next record of a kind from `at` on: where its header and its data are, and how long.
 * Returns 0 where the records end before one comes. */
int32_t bag_next(const uint8_t *data, int64_t size, int64_t at, int32_t op, int64_t found[4]) {
    Record record;
    for (; at < size && read_record(data, size, at, &record); at = record.start + record.length) {
        if (!is_op(&record, op)) continue;
        found[0] = record.header;
        found[1] = record.header_length;
        found[2] = record.start;
        found[3] = record.length;
        return 1;
    }
    return 0;
}
