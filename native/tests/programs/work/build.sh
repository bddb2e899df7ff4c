# gcc under make -j: 40 files are made, compiled by four at a time, linked and run; then all over again.
set -eu
mkdir -p /tmp/build && cd /tmp/build
for k in $(seq 1 40); do
    { echo '#include <stdio.h>'; for n in $(seq 1 30); do echo "int f_${k}_$n(int x) { return x * $n + $k; }"; done; } >f$k.c
done
{
    echo '#include <stdio.h>'
    for k in $(seq 1 40); do echo "int f_${k}_30(int x);"; done
    echo 'int main(void) { long s = 0;'
    for k in $(seq 1 40); do echo "s = s * 31 % 1000003 + f_${k}_30($k);"; done
    echo 'printf("sum %ld\n", s); return 0; }'
} >main.c
objects=$(seq -f 'f%g.o' -s ' ' 1 40)
printf 'all: program\nprogram: main.o %s\n\t@gcc -o $@ $^\n%%.o: %%.c\n\t@gcc -O2 -g -c -o $@ $< && echo "step $@"\n' "$objects" >Makefile
make -j4
./program
echo end
