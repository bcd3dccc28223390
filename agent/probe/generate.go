package probe

// Debian 12's clang, by its number: what another one makes differs. For both byte
// orders, so that the package compiles wherever Go does.
//go:generate go tool bpf2go -cc clang-14 -strip llvm-strip-14 -cflags "-mcpu=v3 -Wall -Werror" -no-global-types network bpf/network.c
//go:generate go tool bpf2go -cc clang-14 -strip llvm-strip-14 -cflags "-mcpu=v3 -Wall -Werror" -no-global-types runqueue bpf/runqueue.c
//go:generate go tool bpf2go -cc clang-14 -strip llvm-strip-14 -cflags "-mcpu=v3 -Wall -Werror" -no-global-types stats bpf/stats.c
//go:generate go tool bpf2go -cc clang-14 -strip llvm-strip-14 -cflags "-mcpu=v3 -Wall -Werror" -no-global-types victim bpf/victim.c
