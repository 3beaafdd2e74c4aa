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
 * `most_others` records that are no messages are TOO_MANY: 16 kB can hold millions of them.
 * `strange`: how many messages are of a channel that is not `known` (a flag for each of 65,536),
 * or have a time beyond int64. */
int64_t mcap_walk(
    const uint8_t *data, int64_t size, int64_t most_others, const uint8_t *known,
    Growing *messages, Growing *definitions, int64_t *stopped, int64_t *strange
) {
    int64_t at = 0, others = 0;
    *strange = 0;
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
            *strange += !known[message->channel] | ((message->log_time | message->publish_time) >> 63);
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

/* Add up how many messages each of `channels` channels has; the others count for nothing. */
void mcap_count(const Message *messages, int64_t count, int64_t channels, int64_t *counts) {
    for (int64_t i = 0; i < count; i++)
        if (messages[i].channel < channels) counts[messages[i].channel]++;
}

/* Put the messages of a unit into columns of `room` numbers. `places`: where each payload starts in
 * the arena, its length, the unit, and where it starts in that. `said`: log time, publish time,
 * sequence, apart from what is of no use when the payload is decoded. `next` is where the next
 * message of each channel goes, -1 for one that is not wanted. */
void mcap_place(
    const Message *messages, int64_t count, int64_t channels, int64_t in_arena, int64_t in_unit,
    int64_t unit, int64_t room, int64_t *next, int64_t *places, int64_t *said
) {
    for (int64_t i = 0; i < count; i++) {
        const Message *message = messages + i;
        if (message->channel >= channels) continue;
        int64_t at = next[message->channel];
        if (at < 0 || at >= room) continue;
        next[message->channel] = at + 1;
        int64_t *place = places + at, *word = said + at;
        place[0] = message->start + in_arena;
        place[room] = message->length;
        place[2 * room] = unit;
        place[3 * room] = message->start + in_unit;
        word[0] = (int64_t)message->log_time;
        word[room] = (int64_t)message->publish_time;
        word[2 * room] = message->sequence;
    }
}
