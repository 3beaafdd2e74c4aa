/* Buffers that grow, handed over to Arrow without a copy (see library.py). */
#ifndef GROWING_H
#define GROWING_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    uint8_t *data;
    int64_t size; /* bytes in use */
    int64_t room; /* bytes allocated */
} Growing;

/* Room for `more` bytes behind those in use; 0 where the machine has no memory left. */
static inline int growing_reserve(Growing *buffer, int64_t more) {
    int64_t needed = buffer->size + more;
    if (needed <= buffer->room) return 1;
    int64_t room = buffer->room ? buffer->room : 1024;
    while (room < needed) room += room / 2;
    uint8_t *data = realloc(buffer->data, (size_t)room);
    if (!data) return 0;
    buffer->data = data;
    buffer->room = room;
    return 1;
}

#endif
