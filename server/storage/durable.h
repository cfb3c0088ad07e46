#pragma once
// Errors of the operating system and folders that survive power loss. Private to this room.

#include <filesystem>
#include <string>

namespace pretrained::server {

// DiskFull, NotFoundError or IoError by `error`, an errno.
[[noreturn]] void throw_io(const std::filesystem::path& path, int error);
// fsync of the folder itself: names made or moved in it are durable.
void sync_folder(const std::filesystem::path& folder);

}  // namespace pretrained::server
