/* Take a step of native.c with the arguments in a file, and write what it made of them to another.

   A file has the number of sizes, the sizes, and then for each tensor its bytes and what it holds;
   behind those of `Arguments` come the images, their indices and the noise. */
#include <stdio.h>
#include <stdlib.h>
#include SOURCE

static void *tensor(FILE *file, size *bytes)
{
    if (fread(bytes, sizeof *bytes, 1, file) != 1)
        exit(1);
    void *read = malloc(*bytes);
    if (fread(read, 1, *bytes, file) != (size_t)*bytes)
        exit(1);
    return read;
}

int main(int count, char **words)
{
    enum { FIELDS = sizeof(Arguments) / sizeof(size) };
    union { Arguments args; size numbers[FIELDS]; void *tensors[FIELDS]; } fields;
    size n_sizes, bytes[FIELDS], other;
    FILE *in = fopen(words[1], "rb"), *out = fopen(words[2], "wb");
    if (!in || !out || fread(&n_sizes, sizeof n_sizes, 1, in) != 1)
        return 1;
    if (fread(fields.numbers, sizeof(size), n_sizes, in) != (size_t)n_sizes)
        return 1;
    for (size k = n_sizes; k < FIELDS; k++)
        fields.tensors[k] = tensor(in, &bytes[k]);
    const uint8_t *images = tensor(in, &other);
    const size *index = tensor(in, &other);
    const real *eps = tensor(in, &other);
    step(&fields.args, images, index, eps, 2, 1);
    for (size k = n_sizes; k < FIELDS; k++)
        fwrite(fields.tensors[k], 1, bytes[k], out);
    return fclose(out);
}
