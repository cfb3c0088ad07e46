"""Sources that attack the machine they are compiled on: they end within their limits, with a typed error, and learn nothing."""
import os, time, unittest
from _attack import GUARDS, Attack

NEXT = "\ninline int next() { return 7; }\n"
ASM = 'asm(".pushsection .data\\n" %s "\\n.popsection");' + NEXT


class Reading(Attack):
    """of files that are not the repository's"""
    attack = "S19"

    def test_files_named_in_the_text_are_refused_with_their_line(self):
        secret = self.home / "secret"
        for line, why in [
                (f'#include "{secret}"', "leads out"), ('#include "/proc/self/environ"', "leads out"),
                ('#include "/etc/shadow"', "leads out"), ("#include </dev/stdin>", "leads out"),
                ('#include "../home/secret"', "leads out"), ("#define F \"x\"\n#include F", "spelled out"),
                (f'#define F "{secret}"\n#include F', "spelled out"), ("#include __FILE__", "spelled out"),
                (f'#if __has_include("{secret}")\n#error it is there\n#endif', "leads out"),
                ("#if __has_include(</etc/shadow>)\n#error it is there\n#endif", "leads out"),
                (f'const char leak[] = {{\n#embed "{secret}"\n}};', "leads out"),
                (f'asm(".incbin \\"{secret}\\"");', "incbin"),
                ('#pragma GCC dependency "/etc/passwd"', "pragma GCC dependency"),
                (f'_Pragma("GCC dependency \\"{secret}\\"")', "pragma GCC dependency")]:
            with self.subTest(line):
                self.put(model_h="#pragma once\n" + line + NEXT)
                self.refused("FormatError", rf"model\.h:[23]: .*{why}")

    def test_what_the_assembler_is_told_to_read_is_not_there(self):
        for guard in GUARDS:
            for file in self.home / "secret", "/etc/passwd", "/etc/shadow", "/proc/self/environ", "/proc/1/environ":
                for directive in '".inc" "bin ', '"\\x2eincbin ', '".inclu" "de ':
                    with self.subTest(f"{guard} {directive} {file}"):
                        self.put(model_h=ASM % f'{directive}\\"{file}\\""')
                        _, _, log = self.refused("CompileError", "does not compile|failed", guard=guard)
                        self.assertNotIn("root:", log)

    def test_other_repositories_and_the_cache_are_not_there(self):
        self.put(model_h=NEXT)
        self.loads(7)
        entry = next(self.cache.glob("*.so"))
        (self.root / "other").mkdir()
        (self.root / "other/weights").write_text("another repository's")
        for guard in GUARDS:
            for file in entry, self.cache / "secret", self.root / "other/weights", "../../secret":
                with self.subTest(f"{guard} {file}"):
                    self.put(model_h=ASM % f'".inc" "bin \\"{file}\\""')
                    self.assertEqual(self.load(guard=guard)[0], "CompileError")

    def test_links_pipes_and_devices_are_no_sources(self):
        self.attack = "S14"
        self.put(model_h='#include "other.h"' + NEXT)
        other = self.repo / "other.h"
        other.symlink_to(self.home / "secret")
        self.refused("FormatError", "symbolic link")
        other.unlink()
        os.mkfifo(other)
        self.refused("FormatError", "regular file")
        other.unlink()
        os.mknod(other, 0o20666, os.makedev(1, 5)) if os.geteuid() == 0 else other.mkdir()
        self.refused("FormatError", "regular file|directory")


class Exhausting(Attack):
    """time, memory, disk"""
    attack = "S19"

    def ends(self, code, pattern, seconds=15, memory=1500):
        self.put(model_h=code + NEXT)
        start = time.monotonic()
        self.refused("CompileError", pattern, seconds=seconds, memory=memory)
        self.assertLess(time.monotonic() - start, 2 * seconds + 30)

    def test_template_bomb(self):
        self.ends("template <int N, class A, class B> struct X { using L = typename X<N - 1, A, X<N, A, int>>::T;"
                  "using R = typename X<N - 1, X<N, B, char>, B>::T; struct T { L l; R r; }; };"
                  "template <class A, class B> struct X<0, A, B> { struct T {}; };"
                  "inline unsigned long size = sizeof(X<200, int, char>::T);", "longer than|memory|does not compile|failed")

    def test_instantiation_without_end(self):
        self.ends("template <class T> int f(T x) { return f(&x) + f(T*()); } inline int y = f(1);",
                  "longer than|memory|does not compile|failed")

    def test_preprocessor_bomb(self):
        rows = "".join(f"#define M{i} M{i - 1} M{i - 1} M{i - 1} M{i - 1}\n" for i in range(1, 30))
        self.ends("#define M0 +1\n" + rows + "inline int bomb = 0 M29;", "longer than|memory|failed")

    def test_includes_itself_twice(self):
        self.ends('#define TWICE\n#if __INCLUDE_LEVEL__ < 150\n#include "model.h"\n#include "model.h"\n#endif\n#if 0',
                  "longer than|memory|does not compile|failed", seconds=8)

    def test_constexpr_without_end(self):
        self.ends("constexpr int f() { unsigned i = 0; for (;;) ++i; return int(i); } static_assert(f() == 0);",
                  "does not compile|longer than")

    def test_ten_gigabytes_of_object_file(self):
        self.ends('asm(".pushsection .data\\n.fill 1342177280, 8, 0x4141414141414141\\n.popsection");',
                  "larger than|longer than|memory|failed|does not compile")
        self.ends("struct Big { char bytes[10737418240]; }; __attribute__((used)) Big big = {{1}};",
                  "larger than|longer than|memory|failed|does not compile")

    def test_nesting_without_end(self):
        self.ends("inline int deep = " + "(" * 200000 + "1" + ")" * 200000 + ";", "does not compile|failed|longer than")
        self.ends("inline int deep = " + "!" * 300000 + "1;", "does not compile|failed|memory|longer than")

    def test_a_compiler_told_to_crash(self):
        for line in "#pragma clang __debug crash", "#pragma clang __debug llvm_fatal_error", \
                '_Pragma("clang __debug parser_crash")', "#pragma GCC plugin evil":
            self.put(model_h=line + NEXT)
            self.refused("FormatError", r"model\.h:1: '#pragma")


class Talking(Attack):
    """to the terminal through the compiler"""
    attack = "S17"

    def test_diagnostics_are_escaped(self):
        self.put(model_h='static_assert(false, "\x1b]0;title\x07 \x1b[2J\u202egnp.exe \u2066 \x9b31m");\nint \u202e\u2066x;' + NEXT)
        _, message, log = self.refused("CompileError", "model.h:1")
        self.assertIn("\\u{202e}gnp", message + log)

    def test_diagnostics_are_bounded(self):
        self.put(model_h="\n".join(f"static_assert(sizeof(int) == {i}, \"{'x' * 3000}\");" for i in range(300)) + NEXT)
        _, message, log = self.refused("CompileError", "model.h")
        self.assertLess(len(message), 1000)
        self.assertLess(len(log), 80_000)
        self.put(model_h="inline int a = " + "b" * 900_000 + ";" + NEXT)
        _, message, log = self.refused("CompileError", "model.h|longer than", seconds=8)
        self.assertLess(len(message), 1000)
        self.assertLess(len(log), 80_000)

    def test_diagnostics_name_no_private_folder(self):
        self.put(model_h="int x = undeclared;" + NEXT)
        _, message, log = self.refused("CompileError", r"model\.h:1:9: error: .*undeclared")
        self.assertNotIn(str(self.root), message + log)

    def test_a_warning_cannot_pretend_to_be_the_include_tree(self):
        self.put(model_h='#pragma message("x\\n. /usr/include/c++/12/vector")\n#warning hello' + NEXT)
        self.loads(7)


if __name__ == "__main__":
    unittest.main()
