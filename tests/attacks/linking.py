"""What a library does before anyone calls it: refused by its bytes, with no instruction run; and what model code may ask of the
linker."""
import os, shutil, struct, subprocess, unittest
from _attack import TOOL, Attack

NEXT = "\ninline int next() { return 7; }\n"
ANSWER = 'extern "C" __attribute__((visibility("default"))) int answer() { return 7; }\n'
FLAGS = ["-shared", "-fPIC", "-fvisibility=hidden", "-Wl,--hash-style=gnu", "-Wl,-z,now", "-Wl,-z,noexecstack", "-w"]
COMPILERS = [name for name in ("clang++-19", "clang++", "g++") if shutil.which(name)]


class Audit(Attack):
    attack = "S20"

    def build(self, source, *flags, compiler="g++"):
        (self.root / "evil.cpp").write_text(source)
        library = self.root / "evil.so"
        subprocess.run([compiler, *FLAGS, "-o", library, self.root / "evil.cpp", *flags], check=True, cwd=self.root)
        return library

    def audit(self, library, entry="answer"):
        return subprocess.run([TOOL, "audit", library, entry], capture_output=True, text=True, timeout=60).stdout

    def evil(self, why, source, *flags, **options):
        said = self.audit(self.build(f'#include <cstdio>\n__attribute__((constructor)) static void run() {{ fclose(fopen("{self.ran}",'
                                     f' "w")); }}\n' + source, *flags, **options))
        self.assertRegex(said, f"FormatError the compiled code .*{why}")
        self.kinds.add("FormatError")
        self.assertFalse(self.ran.exists(), "an instruction of it ran")

    def test_an_honest_library_passes(self):
        self.attack = None
        for compiler in COMPILERS:
            for linker in "bfd", "mold":
                if linker == "mold" and compiler == "g++":
                    continue
                library = self.build("#include <cstring>\n#include <vector>\n#include <iostream>\n"
                                     "void* copy(void* a, void* b, size_t n) { return std::memcpy(a, b, n); }  // IFUNC in libc\nthread_local std::vector<int> mine(3);\n"
                                     "static std::vector<int> data(5);\n" + ANSWER.replace("7", "int(data.size() + mine.size())"),
                                     f"-fuse-ld={linker}", "-fno-gnu-unique" if compiler == "g++" else "-O1", "-Wl,-z,relro",
                                     "-Wl,--version-script=" + str(self.script()), compiler=compiler)
                self.assertEqual(self.audit(library), "ok\n", (compiler, linker))

    def script(self):
        script = self.root / "script"
        script.write_text("{ global: answer; local: *; };")
        return script

    def test_names_for_others(self):
        self.evil("exports 'planted'", ANSWER + ANSWER.replace("answer", "planted"))
        self.evil("exports 'malloc'", ANSWER + 'extern "C" __attribute__((visibility("default"))) void* malloc(unsigned long) { return 0; }')
        self.evil("exports '_Znwm'", ANSWER + '__attribute__((visibility("default"))) void* operator new(unsigned long) { return 0; }')
        self.evil("exports '_ZN2at5emptyEv'", ANSWER + 'namespace at { __attribute__((visibility("default"))) void empty() {} }')
        self.evil("exports 'weak'", ANSWER + 'extern "C" __attribute__((weak, visibility("default"))) void weak() {}')
        self.evil("does not export 'answer'", "int x;")
        self.evil("no function", 'extern "C" { __attribute__((visibility("default"))) int answer = 1; }')

    def test_unique_symbols(self):
        self.evil("GNU_UNIQUE", ANSWER + "template <class T> struct __attribute__((visibility(\"default\"))) S { static int x; };"
                  "template <class T> int S<T>::x = 3; __attribute__((used)) static int* use() { return &S<int>::x; }")

    def test_code_while_linking(self):
        resolver = 'extern "C" int real() { return 7; } extern "C" void* resolve() { static volatile int no; return no ? 0 : (void*)real; }' \
                   '__attribute__((ifunc("resolve"))) int f();'
        self.evil("IFUNC", resolver + ANSWER.replace("7", "f()"))
        self.evil("IFUNC", resolver.replace("int f()", '__attribute__((visibility("default"))) int f()') + ANSWER)

    def test_other_libraries(self):
        planted = self.root / "libplanted.so"
        subprocess.run(["g++", "-shared", "-o", planted, "-x", "c++", "-"], input=b"void planted() {}", check=True)
        self.evil("needs the library 'libplanted.so'|needs the library '/", ANSWER, "-Wl,--no-as-needed", planted)
        self.evil("needs the library 'libz.so.1'", ANSWER, "-Wl,--no-as-needed", "-l:libz.so.1")
        self.evil("DT_RUNPATH", ANSWER, "-Wl,-rpath,/tmp,--enable-new-dtags")
        self.evil("DT_RPATH", ANSWER, "-Wl,-rpath,/tmp,--disable-new-dtags")
        self.evil("DT_AUDIT", ANSWER, "-Wl,--audit=/tmp/a.so")
        self.evil("DT_DEPAUDIT", ANSWER, "-Wl,--depaudit=/tmp/a.so")
        self.evil("DT_FILTER", ANSWER, "-Wl,-F,/tmp/a.so")
        self.evil("DT_AUXILIARY", ANSWER, "-Wl,-f,/tmp/a.so")

    def test_memory(self):
        self.evil("writable and executable", 'asm(".pushsection .evil,\\"awx\\"\\n.quad 1\\n.popsection");' + ANSWER)
        library = self.build(ANSWER)
        whole = bytearray(library.read_bytes())
        table, = struct.unpack_from("<Q", whole, 0x20)
        for i in range(struct.unpack_from("<H", whole, 0x38)[0]):
            kind, flags = struct.unpack_from("<II", whole, table + 56 * i)
            if kind == 1 and flags in (5, 6):
                library.write_bytes(whole[:table + 56 * i + 4] + b"\x07" + whole[table + 56 * i + 5:])
                self.assertRegex(self.audit(library), "FormatError .*writable and executable")
        self.evil("executable stack", ANSWER, "-Wl,-z,execstack")
        self.evil("DT_TEXTREL|relocates what|relocation", 'asm(".text\\n.quad answer\\n");' + ANSWER, "-Wl,-z,notext")

    def test_flags(self):
        for flag, why in ("-z,interpose", "flags"), ("-z,global", "flags"), ("-z,loadfltr", "flags"), ("--hash-style=both", "DT_HASH"), \
                ("--hash-style=sysv", "DT_HASH"), ("-z,initfirst", "flags"):
            self.evil(why, ANSWER, "-Wl," + flag)

    def test_a_flipped_byte_never_crashes_the_audit(self):
        library = self.build(ANSWER)
        whole = library.read_bytes()
        for i in range(0, len(whole), max(1, len(whole) // 150)):
            library.write_bytes(whole[:i] + bytes([whole[i] ^ 0xff]) + whole[i + 1:])
            self.assertRegex(self.audit(library), "^(ok|FormatError)")
            library.write_bytes(whole[:i])
            self.assertRegex(self.audit(library), "^(ok|FormatError)")


class Linking(Attack):
    """the same from source: refused, or without effect on anyone else"""
    attack = "S20"

    def setUp(self):
        super().setUp()
        self.addCleanup(os.environ.pop, "PRETRAINED_CXX", None)

    def each(self):
        for compiler in COMPILERS:
            os.environ["PRETRAINED_CXX"] = compiler
            yield compiler
            for entry in self.cache.glob("*.so"):
                entry.unlink()

    def test_what_takes_effect_while_linking_is_refused(self):
        for compiler in self.each():
            self.put(model_h='extern "C" int real() { return 7; } extern "C" void* resolve() { static volatile int no; return no ? 0 : (void*)real; }'
                             '__attribute__((ifunc("resolve"))) int f(); inline int next() { return f(); }')
            self.refused("FormatError", "IFUNC")
            self.put(model_h='asm(".pushsection .evil,\\"awx\\"\\n.quad 1\\n.popsection");' + NEXT)
            self.refused("FormatError", "writable and executable")
            self.put(model_h='asm(".pushsection .note.GNU-stack,\\"x\\"\\n.popsection");' + NEXT)
            kind, message, _ = self.load()
            self.assertIn(kind, ("ok", "CompileError", "FormatError"))  # the linker is told what the stack is

    def test_libraries_cannot_be_asked_for(self):
        for compiler in self.each():
            for line in '.section .deplibs,\\"MS\\",@llvm_dependent_libraries,1\\n.asciz \\"z\\"', \
                    '.section .linker-options,\\"e\\",@llvm_linker_options\\n.asciz \\"-lz\\"\\n.asciz \\"\\"', \
                    '.section .note.linux\\n.asciz \\"libz.so.1\\"', '.section .interp,\\"a\\"\\n.asciz \\"/tmp/evil\\"':
                self.put(model_h=f'asm("{line}\\n.text");' + NEXT)
                kind, message, _ = self.load()
                self.assertIn(kind, ("ok", "FormatError", "CompileError"), message)
                for library in self.cache.glob("*.so"):
                    needed = subprocess.run(["readelf", "-d", library], capture_output=True, text=True).stdout
                    self.assertNotRegex(needed, "libz|evil")
                    library.unlink()

    def test_definitions_bind_nobody_else(self):
        for compiler in self.each():
            for line in 'extern "C" void* malloc(unsigned long) { __builtin_trap(); }', \
                    'extern "C" __attribute__((visibility("default"))) void* malloc(unsigned long) { __builtin_trap(); }', \
                    '__attribute__((visibility("default"))) void* operator new(unsigned long) { __builtin_trap(); }', \
                    'extern "C" __attribute__((weak, visibility("default"))) void free(void*) { __builtin_trap(); }', \
                    'extern "C" __attribute__((visibility("default"))) int planted() { return 1; }', \
                    'asm(".globl memcpy\\nmemcpy: ud2\\n.globl planted\\nplanted: ud2");', \
                    'asm(".globl real\\nreal: ret\\n.symver real,planted@@V1");', \
                    'template <class T> struct __attribute__((visibility("default"))) S { static int x; }; template <class T> int S<T>::x = 3;' \
                    'inline int* use() { return &S<int>::x; } int* keep = use();':
                with self.subTest(compiler + " " + line):
                    self.put(model_h="#include <cstddef>\n" + line + NEXT)
                    kind, message, _ = self.load()
                    self.assertIn(kind, ("ok", "CompileError", "FormatError"), message)
                    self.assertTrue(kind != "ok" or message == "7", message)
                    for library in self.cache.glob("*.so"):
                        said = subprocess.run([TOOL, "audit", library, "answer"], capture_output=True, text=True).stdout
                        self.assertEqual(said, "ok\n")
                        library.unlink()

    def test_constructors_run_after_the_audit(self):
        run = f'#include <cstdio>\nstatic int run = (fclose(fopen("{self.ran}", "w")), 0);'
        array = f'extern "C" inline __attribute__((used)) void go() {{ fclose(fopen("{self.ran}", "w")); }}' \
                'asm(".pushsection .init_array,\\"aw\\"\\n.quad go\\n.popsection");'
        evil = 'asm(".pushsection .evil,\\"awx\\"\\n.quad 1\\n.popsection");'
        for compiler in self.each():
            for source in run, "#include <cstdio>\n" + array, run.replace("static", "static thread_local") + "inline int touch = run;":
                self.put(model_h=source + evil + NEXT)
                self.refused("FormatError", "writable and executable")
                self.assertFalse(self.ran.exists(), source)
            self.put(model_h=run + NEXT)
            self.loads(7)
            self.assertTrue(self.ran.exists(), "trusted code is C++, whose constructors run")
            self.ran.unlink()

    def test_the_note_cannot_be_forged(self):
        forged = 'asm(".pushsection .note.pretrained,\\"a\\"\\n.long 11,68,1\\n.asciz \\"pretrained\\"\\n.byte 0\\n.long 1\\n.ascii \\"%s\\"\\n' \
                 '.popsection");' % ("0" * 64)
        for compiler in self.each():
            self.put(model_h=forged + NEXT)
            self.loads(7)
            self.loads(7)


if __name__ == "__main__":
    unittest.main()
