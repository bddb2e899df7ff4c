/* Words of the keeper's lines: separated by blanks, other bytes that would hurt as %XX; an empty word is "%". See keeper.h. */
#include <stdlib.h>
#include <string.h>

#include "keeper.h"

void word_escape(struct buf *b, const char *word)
{
    if (!*word)
        buf_addf(b, "%%");
    for (const char *c = word; *c; c++) {
        uint8_t byte = (uint8_t)*c;
        if (byte <= 0x20 || byte >= 0x7f || byte == '%')
            buf_addf(b, "%%%02x", byte);
        else
            buf_add(b, c, 1);
    }
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void word_decode(char *word)
{
    char *out = word;
    for (const char *c = word; *c; c++) {
        if (*c != '%') {
            *out++ = *c;
        } else if (c[1] && c[2] && hex_digit(c[1]) >= 0 && hex_digit(c[2]) >= 0) {
            *out++ = (char)(hex_digit(c[1]) << 4 | hex_digit(c[2]));
            c += 2;
        }
    }
    *out = 0;
}

size_t words_split(char *line, char **words, size_t max)
{
    size_t count = 0;
    char *save = NULL;
    for (char *word = strtok_r(line, " \n", &save); word && count < max; word = strtok_r(NULL, " \n", &save)) {
        word_decode(word);
        words[count++] = word;
    }
    return count;
}
