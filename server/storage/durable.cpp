#include "server/storage/durable.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "server/storage/blobs.h"

namespace pretrained::server {

void throw_io(const std::filesystem::path& path, int error) {
  std::string message = path.string() + ": " + std::strerror(error);
  if (error == ENOSPC || error == EDQUOT) throw DiskFull(message);
  if (error == ENOENT || error == ENOTDIR) throw NotFoundError(message);
  throw IoError(message);
}

void sync_folder(const std::filesystem::path& folder) {
  FileDescriptor fd(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd.get() < 0 || fsync(fd.get()) != 0) throw_io(folder, errno);
}

}  // namespace pretrained::server
