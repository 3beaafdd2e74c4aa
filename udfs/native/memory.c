/* What Python needs to own the memory that a kernel allocated. */
#include <stdlib.h>

void release(void *data) { free(data); }
