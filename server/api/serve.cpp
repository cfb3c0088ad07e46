#include "server/api/serve.h"

namespace pretrained::server {
namespace {

// The bytes to send of `size`; nothing where there are none.
std::optional<ByteRange> choose_range(Call& call, Response& response, uint64_t size) {
  response.headers.set("Accept-Ranges", "bytes");
  auto condition = call.request.headers.get("If-Range");
  bool holds = condition.empty() || condition == response.headers.get("ETag");
  auto header = call.request.headers.get("Range");
  if (!header.empty() && holds) {
    if (auto range = parse_range(header, size)) {
      response.status = 206;
      response.headers.set("Content-Range", "bytes " + std::to_string(range->first) + "-" +
                                                std::to_string(range->last) + "/" +
                                                std::to_string(size));
      return range;
    }
  }
  if (size == 0) return std::nullopt;
  return ByteRange{0, size - 1};
}

}  // namespace

void serve_bytes(Call& call, Response& response, std::string bytes) {
  auto range = choose_range(call, response, bytes.size());
  if (range && response.status == 206)
    bytes = bytes.substr(range->first, range->last - range->first + 1);
  response.body = std::move(bytes);
}

void serve_file(Call& call, Response& response, FileDescriptor file, uint64_t size) {
  auto range = choose_range(call, response, size);
  if (!range) {
    response.body = std::string();
    return;
  }
  Stream stream;
  stream.length = range->last - range->first + 1;
  stream.produce = [file = std::make_shared<FileDescriptor>(std::move(file)), first = range->first,
                    length = *stream.length](Sink& sink) {
    sink.send_file(file->get(), first, length);
  };
  response.body = std::move(stream);
}

void serve_object(Call& call, Response& response, const ContentObject& object) {
  auto range = choose_range(call, response, object.size);
  if (!range) {
    response.body = std::string();
    return;
  }
  ContentStore& content = call.services.content;
  Stream stream;
  stream.length = range->last - range->first + 1;
  stream.produce = [&content, object, range = *range](Sink& sink) {
    ContentStore::Output output;
    output.write = [&](std::string_view bytes) { sink.write(bytes); };
    output.send_file = [&](int fd, uint64_t offset, uint64_t length) {
      sink.send_file(fd, offset, length);
    };
    content.read(object, range.first, range.last, output);
  };
  response.body = std::move(stream);
}

}  // namespace pretrained::server
