#pragma once
// Bodies of files: whole or one range of them, from memory or from the content store.

#include <string>

#include "pretrained/base/files.h"
#include "server/api/common.h"

namespace pretrained::server {

// Sets status (200, 206), Accept-Ranges and Content-Range and the body, as "Range" and "If-Range"
// ask; an "ETag" must be among the headers for If-Range to hold. HttpError 416.
void serve_bytes(Call& call, Response& response, std::string bytes);
void serve_file(Call& call, Response& response, FileDescriptor file, uint64_t size);
void serve_object(Call& call, Response& response, const ContentObject& object);

}  // namespace pretrained::server
