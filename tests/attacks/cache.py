"""What lies in the cache is run only where it is what was compiled here from the sources at hand."""
import hashlib, itertools, multiprocessing, os, random, shutil, subprocess, time, unittest
from _attack import TOOL, Attack

NEXT = "\ninline int next() { return 7; }\n"


class Entry(Attack):
    def setUp(self):
        super().setUp()
        self.put(model_h=NEXT)
        self.loads(7)
        self.entry = next(self.cache.glob("*.so"))
        self.honest = self.entry.read_bytes()

    def evil(self, value=666):
        """A library with the very note of the entry, that passes the audit: only who made it is wrong."""
        key = self.entry.stem
        source = self.root / "evil.cpp"
        source.write_text(f"""#include <cstdio>
            static int ran = (fclose(fopen("{self.ran}", "w")), 0);
            extern "C" __attribute__((visibility("default"))) int answer() {{ return {value}; }}
            __attribute__((section(".note.pretrained"), used, aligned(4))) const struct {{ unsigned a = 11, b = 68, c = 1; char
            name[12] = "pretrained"; unsigned level = 1; char key[64] = {{{",".join(repr(c) for c in key)}}}; }} note;""")
        library = self.root / "evil.so"
        script = self.root / "script"
        script.write_text("{ global: answer; local: *; };")
        subprocess.run(["clang++-19", "-std=c++20", "-shared", "-fPIC", "-Wl,--hash-style=gnu", "-Wl,-z,now", f"-Wl,--version-script={script}",
                        "-o", library, source], check=True)
        return library.read_bytes()


class Planted(Entry):
    attack = "S12"

    def plant(self, bytes_, seal=None):
        self.entry.write_bytes(bytes_)
        if seal is not None:
            self.entry.with_name(self.entry.name + ".seal").write_text(seal)

    def test_a_library_with_every_digest_one_could_compute_is_not_run(self):
        evil = self.evil()
        digest = hashlib.sha256(evil).hexdigest()
        for seal in None, digest, "0" * 64, hashlib.sha256(self.entry.name.encode() + evil).hexdigest(), "":
            self.plant(evil, seal)
            self.loads(7)
            self.assertFalse(self.ran.exists(), "a constructor ran")
            self.assertEqual(self.entry.read_bytes()[:4], b"\x7fELF")

    def test_with_its_seal_but_against_the_audit(self):
        """Even the right seal, as a bug might give it, opens nothing that fails the audit."""
        framed = lambda *texts: b"".join(len(text).to_bytes(8, "little") + text for text in texts)
        secret = (self.cache / "secret").read_bytes()
        evil = self.evil()
        seal = lambda bytes_: hashlib.sha256(framed(secret, self.entry.name.encode(), hashlib.sha256(bytes_).hexdigest().encode())).hexdigest()
        self.assertEqual(seal(self.honest), self.entry.with_name(self.entry.name + ".seal").read_text(), "this is how seals are made")
        evil = evil.replace(b"answer\0", b"answes\0")
        self.plant(evil, seal(evil))
        self.loads(7)
        self.assertFalse(self.ran.exists(), "a constructor ran")

    def test_an_entry_of_another_key(self):
        self.put(model_h=NEXT.replace("7", "8"))
        self.loads(8)
        other = next(file for file in self.cache.glob("*.so") if file != self.entry)
        shutil.copy(other, self.entry)
        shutil.copy(f"{other}.seal", f"{self.entry}.seal")
        self.put(model_h=NEXT)
        self.loads(7)

    def test_a_flipped_byte_anywhere(self):
        seal = self.entry.with_name(self.entry.name + ".seal").read_text()
        size = len(self.honest)
        for at in [*range(0, 64, 8), *range(64, size, size // 12), size - 1]:
            changed = bytearray(self.honest)
            changed[at] ^= 1 << at % 8
            self.plant(bytes(changed), seal)
            self.loads(7)
            self.assertNotEqual(self.entry.read_bytes(), bytes(changed))

    def test_links_and_foreign_owners(self):
        evil = self.root / "evil.so"
        evil.write_bytes(self.evil())
        self.entry.unlink()
        self.entry.symlink_to(evil)
        self.loads(7)
        self.entry.unlink()
        os.mkfifo(self.entry)
        self.loads(7)
        self.entry.chmod(0o666)
        self.loads(7)
        self.assertEqual(self.entry.stat().st_mode & 0o777, 0o600)
        self.assertFalse(self.ran.exists())

    def test_a_secret_that_was_changed_makes_all_entries_void(self):
        evil = self.evil()
        self.plant(evil)
        for secret in b"", b"0" * 64, b"1" * 63:
            (self.cache / "secret").write_bytes(secret)
            self.loads(7)
            self.assertFalse(self.ran.exists())


class Kernel(Attack):
    """that lets no memory without a file be executed"""

    def test_the_library_goes_into_a_file_without_a_name(self):
        self.put(model_h=NEXT)
        for level, value in ("1", "7"), ("2", "8"):
            self.put(model_h=NEXT.replace("7", value))
            script = f"echo {level} > /proc/sys/vm/memfd_noexec && exec {TOOL} load {self.repo} {self.cache}"
            done = subprocess.run(["unshare", "-Urpf", "--mount-proc", "sh", "-c", script], capture_output=True, text=True)
            self.assertEqual(done.stdout, f"ok {value}\n", done.stderr)
        names = {file.suffix for file in self.cache.iterdir()}
        self.assertEqual(names, {".so", ".seal", ".lock", ""}, "and nothing else stayed")


class Swapped(Entry):
    """sources and entries, while they are loaded, in a tight loop"""
    attack = "S13"
    loads_to_win = int(os.environ.get("ATTACKS_LOADS", "200"))

    def swap_sources(self, evil, stop):
        for text in itertools.cycle([NEXT, NEXT.replace("7", "8")]):
            (self.root / "new.h").write_text(text)
            os.replace(self.root / "new.h", self.repo / "model.h")
            if stop.is_set():
                return

    def swap_entries(self, evil, stop):
        """Evil for a moment, in every way, at a moment that nobody can foresee: what a load finds damaged it compiles again, which
        takes longer than all else."""
        while not stop.is_set():
            for bytes_ in evil, self.honest:
                with open(self.entry, "r+b") as file:  # in place, under the reader's hands
                    file.write(bytes_)
            for bytes_ in evil, self.honest:
                (self.root / "new.so").write_bytes(bytes_)
                os.replace(self.root / "new.so", self.entry)
            time.sleep(random.uniform(0, 0.01))

    def race(self, swap, count):
        """How often each value came of `count` loads, each in a process of its own."""
        stop = multiprocessing.Event()
        evil = self.evil().ljust(len(self.honest), b"\0")
        process = multiprocessing.Process(target=swap, args=(evil, stop), daemon=True)
        process.start()
        try:
            done = subprocess.run([TOOL, "race", self.repo, self.cache, str(count)], capture_output=True, text=True)
        finally:
            stop.set()
            process.join(10)
        self.assertEqual(process.exitcode, 0, "it attacked to the end")
        self.assertEqual(done.returncode, 0, done.stderr)
        found = dict(map(int, line.split()) for line in done.stdout.splitlines())
        self.assertEqual(sum(found.values()), count)
        self.assertLessEqual(set(found), {7, 8}, f"another's code ran: {found}")
        self.assertFalse(self.ran.exists(), "the attacker won")
        for value in "78":  # and no entry was made of what another digest stands for
            self.put(model_h=NEXT.replace("7", value))
            self.loads(value)

    def test_entries(self):
        self.race(self.swap_entries, self.loads_to_win // 2)

    def test_sources(self):
        self.put(model_h=NEXT.replace("7", "8"))
        self.loads(8)
        self.race(self.swap_sources, self.loads_to_win // 2)


if __name__ == "__main__":
    unittest.main()
