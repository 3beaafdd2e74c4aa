/* LZ4 frames, decompressed to where their reader wants them.
 *
 * The library for Python makes an object of each frame, in memory that the system hands out anew,
 * page by page, each time: that and the copies cost several times what decompression does. Only
 * frames that are sound in every checksum are taken; of others the library says what is wrong.
 *
 * Source: lz4_Frame_format.md and lz4_Block_format.md of LZ4 1.10; xxhash_spec.md.
 */
#include <stdint.h>
#include <string.h>

enum { INDEPENDENT = 1 << 5, BLOCK_SUM = 1 << 4, CONTENT_SIZE = 1 << 3, CONTENT_SUM = 1 << 2 };
enum { VERSION = 1 << 6, VERSION_BITS = 3 << 6, NOT_TAKEN = 3, LEAST_MATCH = 4, COPY = 16 };
#define MAGIC UINT32_C(0x184D2204)
#define STORED UINT32_C(0x80000000)

static uint32_t u32_at(const uint8_t *data) {
    uint32_t value;
    memcpy(&value, data, sizeof value);
    return value;
}

static uint32_t rotated(uint32_t value, int bits) { return value << bits | value >> (32 - bits); }

static const uint32_t P1 = 2654435761u, P2 = 2246822519u, P3 = 3266489917u, P4 = 668265263u,
                      P5 = 374761393u;

/* xxHash, 32 bits, seed 0. */
static uint32_t xxh32(const uint8_t *data, int64_t size) {
    const uint8_t *end = data + size;
    uint32_t hash = P5;
    if (size >= 16) {
        uint32_t lane[4] = {P1 + P2, P2, 0, 0 - P1};
        for (; end - data >= 16; data += 16)
            for (int i = 0; i < 4; i++)
                lane[i] = rotated(lane[i] + u32_at(data + 4 * i) * P2, 13) * P1;
        hash = rotated(lane[0], 1) + rotated(lane[1], 7) + rotated(lane[2], 12) +
               rotated(lane[3], 18);
    }
    hash += (uint32_t)size;
    for (; end - data >= 4; data += 4) hash = rotated(hash + u32_at(data) * P3, 17) * P4;
    for (; data < end; data++) hash = rotated(hash + *data * P5, 11) * P1;
    hash = (hash ^ hash >> 15) * P2;
    hash = (hash ^ hash >> 13) * P3;
    return hash ^ hash >> 16;
}

/* Add to a length of 15 the bytes that go on with it; 0 where they don't end. */
static int read_length(const uint8_t **in, const uint8_t *end, int64_t *length) {
    uint8_t byte;
    do {
        if (*in == end) return 0;
        byte = *(*in)++;
        *length += byte;
    } while (byte == 255);
    return 1;
}

/* Copy what stands `offset` bytes before `out`, which may run into what it writes. `room` is what
 * may be written: 16 bytes are copied at a time where there is room for too many. */
static void copy_match(uint8_t *out, int64_t offset, int64_t length, int64_t room) {
    const uint8_t *from = out - offset;
    if (offset >= COPY && room >= length + COPY) {
        for (int64_t i = 0; i < length; i += COPY) memcpy(out + i, from + i, COPY);
    } else if (offset == 1) {
        memset(out, *from, (size_t)length);
    } else {
        for (int64_t i = 0; i < length; i++) out[i] = from[i];
    }
}

/* Decompress a block; matches reach back to `base`. Returns where it ended, 0 where it is damaged. */
static uint8_t *read_block(const uint8_t *in, const uint8_t *end, const uint8_t *base, uint8_t *out,
                           uint8_t *out_end) {
    while (in < end) {
        int token = *in++;
        int64_t literals = token >> 4, match = token & 15;
        if (literals == 15 && !read_length(&in, end, &literals)) return 0;
        if (literals > end - in || literals > out_end - out) return 0;
        if (literals <= COPY && end - in >= COPY && out_end - out >= COPY)
            memcpy(out, in, COPY);
        else
            memcpy(out, in, (size_t)literals);
        in += literals;
        out += literals;
        if (in == end) return out; /* the last sequence has no match */
        if (end - in < 2) return 0;
        int64_t offset = in[0] | in[1] << 8;
        in += 2;
        if (match == 15 && !read_length(&in, end, &match)) return 0;
        match += LEAST_MATCH;
        if (!offset || offset > out - base || match > out_end - out) return 0;
        copy_match(out, offset, match, out_end - out);
        out += match;
    }
    return 0;
}

/* The flags of a frame's head, and its size; 0 where it is none that is taken. */
static int64_t read_head(const uint8_t *in, int64_t size, int64_t room, int *flags) {
    if (size < 7 || u32_at(in) != MAGIC) return 0;
    *flags = in[4];
    if ((*flags & VERSION_BITS) != VERSION || *flags & NOT_TAKEN) return 0;
    int64_t at = 6;
    if (*flags & CONTENT_SIZE) {
        uint64_t content;
        if (size < at + 9) return 0;
        memcpy(&content, in + at, sizeof content);
        if (content != (uint64_t)room) return 0;
        at += 8;
    }
    return in[at] == (xxh32(in + 4, at - 4) >> 8 & 255) ? at + 1 : 0;
}

/* Decompress a frame of exactly `room` bytes to `out`. Returns 1; 0 where it is not sound, or not
 * of that size: what `out` holds then means nothing. */
int32_t lz4_frame(const uint8_t *in, int64_t size, uint8_t *out, int64_t room) {
    int flags;
    int64_t at = read_head(in, size, room, &flags);
    uint8_t *to = out, *end = out + room;
    if (!at) return 0;
    for (;;) {
        if (size - at < 4) return 0;
        uint32_t head = u32_at(in + at);
        at += 4;
        if (!head) break;
        int64_t length = head & ~STORED;
        const uint8_t *block = in + at;
        if (length + (flags & BLOCK_SUM ? 4 : 0) > size - at) return 0;
        if (flags & BLOCK_SUM && u32_at(block + length) != xxh32(block, length)) return 0;
        at += length + (flags & BLOCK_SUM ? 4 : 0);
        if (head & STORED) {
            if (length > end - to) return 0;
            memcpy(to, block, (size_t)length);
            to += length;
        } else {
            to = read_block(block, block + length, flags & INDEPENDENT ? to : out, to, end);
            if (!to) return 0;
        }
    }
    if (to != end) return 0;
    if (!(flags & CONTENT_SUM)) return 1;
    return size - at >= 4 && u32_at(in + at) == xxh32(out, room);
}
