/* libFuzzer's way in; -DTARGET=fuzz_codec and so on. See run.sh. */
#include "targets.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    TARGET(data, len);
    return 0;
}
