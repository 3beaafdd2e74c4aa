/* The records of an MCAP chunk, or of a range of the file.
 *
 * Source: https://mcap.dev/spec#records
 */
#include "growing.h"

typedef struct {
    int64_t start; /* of the payload */
    int64_t length;
    uint64_t log_time;
    uint64_t publish_time;
    uint32_t sequence;
    uint16_t channel;
    uint16_t unused;
} Message;

typedef struct {
    int64_t op;
    int64_t start; /* of the content */
    int64_t end;
} Definition;

enum { HEAD_BYTES = 9, MESSAGE_HEAD_BYTES = 22 };
enum { OP_SCHEMA = 3, OP_CHANNEL = 4, OP_MESSAGE = 5 };
enum { FILLED, HEAD_CUT, NO_RECORD, TOO_MANY, NO_MEMORY = -1 };

/* Visit all records. Messages and definitions are appended to the buffers; `stopped` is the byte
 * where the records end, which is the end of the data if the result is FILLED. More than
 * `most_others` records that are no messages are TOO_MANY: 16 kB can hold millions of them. */
int64_t mcap_walk(
    const uint8_t *data, int64_t size, int64_t most_others, Growing *messages,
    Growing *definitions, int64_t *stopped
) {
    int64_t at = 0, others = 0;
    while (at < size) {
        *stopped = at;
        if (size - at < HEAD_BYTES) return HEAD_CUT;
        uint8_t op = data[at];
        uint64_t length;
        memcpy(&length, data + at + 1, 8);
        const uint8_t *content = data + at + HEAD_BYTES;
        if (op == 0 || length > (uint64_t)(size - at - HEAD_BYTES)) return NO_RECORD;
        if (op == OP_MESSAGE) {
            if (length < MESSAGE_HEAD_BYTES) return NO_RECORD;
            if (!growing_reserve(messages, sizeof(Message))) return NO_MEMORY;
            Message *message = (Message *)(messages->data + messages->size);
            message->start = at + HEAD_BYTES + MESSAGE_HEAD_BYTES;
            message->length = (int64_t)length - MESSAGE_HEAD_BYTES;
            memcpy(&message->channel, content, 2);
            memcpy(&message->sequence, content + 2, 4);
            memcpy(&message->log_time, content + 6, 8);
            memcpy(&message->publish_time, content + 14, 8);
            message->unused = 0;
            messages->size += sizeof(Message);
        } else {
            if (++others > most_others) return TOO_MANY;
            if (op == OP_SCHEMA || op == OP_CHANNEL) {
                if (!growing_reserve(definitions, sizeof(Definition))) return NO_MEMORY;
                Definition found = {op, at + HEAD_BYTES, at + HEAD_BYTES + (int64_t)length};
                memcpy(definitions->data + definitions->size, &found, sizeof found);
                definitions->size += sizeof found;
            }
        }
        at += HEAD_BYTES + (int64_t)length;
    }
    *stopped = size;
    return FILLED;
}
