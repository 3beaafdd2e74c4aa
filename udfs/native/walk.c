/* The walk over mixed records, where each begins with the id of its group. */
#include "growing.h"

#define WORD_BYTES 8
#define LENGTH_BYTES 4
#define VARIABLE (-1)
#define SLOTS 256
#define NO_GROUP (-1)

enum { WALKED, STRANGE, NO_MEMORY };

typedef struct {
    const uint64_t *ids; /* ascending */
    const int64_t *sizes;
    int64_t count;
    int32_t recent[SLOTS]; /* which group had an id of this lowest byte last */
} Groups;

static int64_t group_of(Groups *groups, uint64_t id) {
    if (!groups->count) return NO_GROUP;
    int32_t *slot = groups->recent + id % SLOTS;
    if (groups->ids[*slot] == id) return *slot;
    int64_t low = 0, count = groups->count;
    while (low < count) {
        int64_t middle = low + (count - low) / 2;
        if (groups->ids[middle] < id)
            low = middle + 1;
        else
            count = middle;
    }
    if (low == groups->count || groups->ids[low] != id) return NO_GROUP;
    *slot = (int32_t)low;
    return low;
}

/* An id of any width; one that is larger than a word belongs to no group. 0 for such a one. */
static inline int read_id(const uint8_t *at, int64_t width, uint64_t *id) {
    *id = 0;
    for (int64_t i = WORD_BYTES; i < width; i++)
        if (at[i]) return 0;
    memcpy(id, at, (size_t)(width < WORD_BYTES ? width : WORD_BYTES));
    return 1;
}

static inline int append(Growing *numbers, int64_t number) {
    if (numbers->room - numbers->size < WORD_BYTES && !growing_reserve(numbers, WORD_BYTES))
        return 0;
    memcpy(numbers->data + numbers->size, &number, WORD_BYTES);
    numbers->size += WORD_BYTES;
    return 1;
}

/* Walk the whole records at the front of `size` bytes, which stand at `base` of the stream.
   `count` groups, less than 2^31: ids, ascending, and bytes of a record without its id, or
   VARIABLE. `found`: for each group the positions behind the ids, and of a variable one the
   position of the value and its length by turns. `end`: where the last whole record ends. */
int walk_records(const uint8_t *data, int64_t size, int64_t base, int64_t width,
                 const uint64_t *ids, const int64_t *sizes, int64_t count, Growing *found,
                 int64_t *end) {
    Groups groups = {.ids = ids, .sizes = sizes, .count = count};
    int64_t at = 0;
    int status = WALKED;
    while (width <= size - at) {
        uint64_t id;
        int64_t group = read_id(data + at, width, &id) ? group_of(&groups, id) : NO_GROUP;
        if (group == NO_GROUP) {
            status = STRANGE;
            break;
        }
        int64_t begin = at + width, length = sizes[group];
        if (length == VARIABLE) {
            uint32_t said;
            if (size - begin < LENGTH_BYTES) break;
            memcpy(&said, data + begin, LENGTH_BYTES);
            begin += LENGTH_BYTES;
            length = said;
        }
        if (length < 0 || length > size - begin) break;
        if (!append(found + group, base + begin) ||
            (sizes[group] == VARIABLE && !append(found + group, length))) {
            status = NO_MEMORY;
            break;
        }
        at = begin + length;
    }
    *end = at;
    return status;
}

/* Rows of `width` bytes at positions of a stream whose `size` bytes from `base` are here, one behind the other. How many; less than
   all of them where one is not in them. */
int64_t gather_rows(const uint8_t *data, int64_t size, const int64_t *positions, int64_t base,
                    int64_t rows, int64_t width, uint8_t *out) {
    for (int64_t i = 0; i < rows; i++) {
        if (positions[i] < base || width > size || positions[i] - base > size - width) return i;
        memcpy(out + i * width, data + (positions[i] - base), (size_t)width);
    }
    return rows;
}
