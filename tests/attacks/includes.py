"""What code may include: the standard library, torch, pretrained and its own files. Other headers and libraries cannot take
their place."""
import os, unittest
from _attack import GUARDS, Attack

NEXT = "\ninline int next() { return 7; }\n"


class Includes(Attack):
    attack = "S26"

    def test_headers_of_the_system_are_refused_with_their_line(self):
        for header in "sys/socket.h", "unistd.h", "dlfcn.h", "sys/mman.h", "spawn.h", "bits/stdc++.h", "linux/bpf.h", "Python.h", \
                "curl/curl.h", "openssl/evp.h", "experimental/memory":
            self.put(model_h=f"#pragma once\n#include <vector>\n#include <{header}>" + NEXT)
            self.refused("FormatError", rf"model\.h:3: includes <{header.replace('+', '.')}>")

    def test_in_quotes_too(self):
        for header in "unistd.h", "sys/socket.h", "linux/time.h", "sys/signal.h":
            self.put(model_h=f'#pragma once\n\n#include "{header}"' + NEXT)
            self.refused("FormatError", rf"model\.h:3: includes '[^']*{header}'")

    def test_however_they_are_written(self):
        for text in "#inc\\\nlude <unistd.h>", "#inc\\ \t\nlude <unistd.h>", "/*\n*/ # /**/ include /* */ <unistd.h>", \
                "%:include <unistd.h>", "#import <unistd.h>", "#include_next <unistd.h>", "int x;\r#include <unistd.h>", \
                "#define U <unistd.h>\n#include U", "#if 0\n'\n#endif\n#include <unistd.h>", \
                "#define X R\"(\nstatic int y;)\"\n#include <unistd.h>", "#pragma GCC system_header\n#include <unistd.h>", \
                "int x$R = sizeof(x$R\"(\");\n#include <unistd.h>\n//)\"", "#define include\n#include <unistd.h>":
            with self.subTest(text):
                self.put(model_h="#pragma once\n" + text + NEXT)
                self.refused("FormatError", r"model\.h:\d+: ")

    def test_what_is_allowed_compiles_under_every_guard(self):
        self.attack = None
        self.put(model_h='#pragma once\n#include <vector>\n#include <cmath>\n#include <cstdint>\n#include <stdint.h>\n#include <string.h>\n'
                         "#include <immintrin.h>\n#include <functional>\n#include <thread>\n#include <filesystem>\n"
                         '#if __has_include(<optional>)\n#include "own.h"\n#endif\n',
                 own_h="#include <map>" + NEXT)
        self.addCleanup(os.environ.pop, "PRETRAINED_CXX", None)
        for compiler in "clang++-19", "g++":
            os.environ["PRETRAINED_CXX"] = compiler
            for guard in GUARDS:
                for entry in self.cache.glob("*.so"):
                    entry.unlink()
                self.loads(7, guard=guard)

    def test_own_files_come_before_all_others_and_only_in_quotes(self):
        self.put(model_h='#include "vector"\n#include <string>\n', vector=NEXT, string="#error taken")
        self.loads(7)
        self.put(model_h="#include <vector>\n" + NEXT, vector="#error taken", string="#error taken")
        self.loads(7)

    def test_embedded_data_is_data(self):
        self.put(model_h="inline int next() { static const unsigned char b[] = {\n#embed \"data.bin\"\n}; return b[1]; }",
                 data_bin=b'\0\x07#include <unistd.h>\n')
        self.assertIn(self.load()[0], ("ok", "CompileError"))  # older compilers have no #embed
        self.put(model_h='#if __has_embed("data.bin")\n#endif\n#include "data.bin"' + NEXT, data_bin=b"#include <unistd.h>\n")
        for entry in self.cache.glob("*.so"):
            entry.unlink()
        self.refused("FormatError", r"data\.bin:1: includes <unistd.h>")


class Environment(Attack):
    attack = "S26"

    def test_no_variable_of_the_process_steers_the_compiler(self):
        evil = self.root / "evil"
        evil.mkdir()
        (evil / "vector").write_text("#error taken\n")
        (evil / "libm.so").write_text("INPUT(/nowhere.so)")
        variables = {"CPATH": evil, "CPLUS_INCLUDE_PATH": evil, "C_INCLUDE_PATH": evil, "LIBRARY_PATH": evil, "LD_RUN_PATH": evil,
                     "COMPILER_PATH": evil, "GCC_EXEC_PREFIX": evil, "CCC_OVERRIDE_OPTIONS": "#+-DX", "DEPENDENCIES_OUTPUT": evil / "x",
                     "SUNPRO_DEPENDENCIES": evil / "y", "CC_PRINT_OPTIONS": "1", "CC_PRINT_OPTIONS_FILE": str(evil / "z"),
                     "TMPDIR": evil, "SOURCE_DATE_EPOCH": "x"}
        old = {name: os.environ.get(name) for name in variables}
        os.environ.update({name: str(value) for name, value in variables.items()})
        try:
            self.put(model_h="#include <vector>\n#ifdef X\n#error steered\n#endif" + NEXT)
            self.loads(7)
        finally:
            for name, value in old.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
        self.assertEqual(sorted(file.name for file in evil.iterdir()), ["libm.so", "vector"])

    def test_no_secret_of_the_process_reaches_the_compiler(self):
        self.attack, self.theirs = "S24", "does not apply: it starts no compiler"
        spy = self.root / "clang-spy"
        spy.write_text("#!/bin/sh\nenv >&2\ncat /proc/self/environ >&2\nls -la ~ / >&2\nexit 1\n")
        spy.chmod(0o755)
        os.environ["PRETRAINED_CXX"] = str(spy)
        try:
            for guard in GUARDS:
                self.put(model_h=NEXT)
                _, _, log = self.refused("CompileError", "failed", guard=guard)  # which looks for HF_TOKEN's value everywhere
                self.assertRegex(log, "LANG=C")
                self.assertNotRegex(log, "HOME=|TOKEN|LD_LIBRARY_PATH")
        finally:
            del os.environ["PRETRAINED_CXX"]


if __name__ == "__main__":
    unittest.main()
