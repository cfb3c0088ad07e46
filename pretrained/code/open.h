#pragma once
// A library opened from bytes in memory: what was checked is what runs, whatever happens to files.

#include <filesystem>
#include <string>

#include "pretrained/base/export.h"
#include "pretrained/base/files.h"

namespace pretrained::code {

enum class Memory { sealed, unnamed_file };

// Opens it for good and gives the handle. The bytes go into sealed memory that nobody can change;
// where the kernel lets none be executed (vm.memfd_noexec), into a file without a name in `folder`,
// read again after the only descriptor that could write is closed. `name` is for messages. Throws
// CompileError, IoError.
PRETRAINED_API void* open_library(const std::string& bytes, const std::filesystem::path& folder,
                                  const std::string& name, Memory memory = Memory::sealed);

// The bytes in memory that nobody can change. IoError where the kernel lets none be executed.
FileDescriptor sealed_memory(const std::string& bytes, const std::string& name);

}  // namespace pretrained::code
