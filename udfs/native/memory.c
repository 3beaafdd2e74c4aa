/* What Python needs to own the memory that a kernel allocated, and to have it at hand again. */
#include <malloc.h>
#include <stdlib.h>

enum { KEPT_BYTES = 64 << 20, LARGEST_MAPPED = 32 << 20 };

void release(void *data) { free(data); }

/* Keep some memory that was freed: what a group of messages fills is as large as what the next one
 * needs, and fresh memory costs a fault for each page, half of the time that decode takes. */
void keep_memory(void) {
#ifdef __GLIBC__
    mallopt(M_MMAP_THRESHOLD, LARGEST_MAPPED);
    mallopt(M_TRIM_THRESHOLD, KEPT_BYTES);
#endif
}
