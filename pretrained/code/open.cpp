#include "pretrained/code/open.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

#include "pretrained/base/error.h"
#include "pretrained/base/files.h"

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

namespace pretrained::code {
namespace fs = std::filesystem;
namespace {

void write_all(const FileDescriptor& file, const std::string& bytes, const std::string& name) {
  for (size_t at = 0; at < bytes.size();) {
    ssize_t put = write(file.get(), bytes.data() + at, bytes.size() - at);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) throw_errno(name, errno);
    at += size_t(put);
  }
}

std::string path_of(const FileDescriptor& file) {
  return "/proc/self/fd/" + std::to_string(file.get());
}

// Not open where the kernel gives no executable memory.
FileDescriptor try_sealed_memory(const std::string& bytes, const std::string& name) {
  constexpr unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  FileDescriptor memory(memfd_create("pretrained-model-code", flags | MFD_EXEC));
  // Kernels before 6.3 do not know the flag.
  if (memory.get() < 0 && errno == EINVAL)
    memory = FileDescriptor(memfd_create("pretrained-model-code", flags));
  if (memory.get() < 0) return memory;
  write_all(memory, bytes, name);
  if (fcntl(memory.get(), F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) !=
      0)
    throw_errno(name + ": memory that cannot be sealed", errno);
  return memory;
}

FileDescriptor unnamed_file(const std::string& bytes, const fs::path& folder,
                            const std::string& name) {
  FileDescriptor writer(open(folder.c_str(), O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC, 0500));
  if (writer.get() < 0) throw_errno(folder.string() + ": no file for compiled code", errno);
  write_all(writer, bytes, name);
  FileDescriptor reader(open(path_of(writer).c_str(), O_RDONLY | O_CLOEXEC));
  if (reader.get() < 0) throw_errno(name, errno);
  writer = FileDescriptor();
  if (read_all(reader, name, bytes.size()) != bytes)
    throw IoError(name + ": changed while it was loaded");
  return reader;
}

}  // namespace

FileDescriptor sealed_memory(const std::string& bytes, const std::string& name) {
  FileDescriptor memory = try_sealed_memory(bytes, name);
  if (memory.get() < 0) throw_errno(name + ": no memory for compiled code", errno);
  return memory;
}

void* open_library(const std::string& bytes, const fs::path& folder, const std::string& name,
                   Memory memory) {
  FileDescriptor file;
  if (memory == Memory::sealed) file = try_sealed_memory(bytes, name);
  if (file.get() < 0) file = unnamed_file(bytes, folder, name);
  void* handle = dlopen(path_of(file).c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle)
    throw CompileError(std::string("the compiled code does not load: ") + printable(dlerror(), 500),
                       "dlopen", "");
  // The descriptor stays open: the dynamic linker tells libraries apart by name and would take the
  // next one for this.
  file.release();
  return handle;
}

}  // namespace pretrained::code
