#include <webp/decode.h>
#include <webp/demux.h>

#include <memory>

#include "pretrained/base/error.h"
#include "pretrained/vision/codecs.h"

namespace pretrained::vision {
namespace {

using Demuxer = std::unique_ptr<WebPDemuxer, void (*)(WebPDemuxer*)>;

void find_orientation(WebPDemuxer* demuxer, int& orientation) {
  WebPChunkIterator chunk;
  if (!WebPDemuxGetChunk(demuxer, "EXIF", 1, &chunk)) return;
  std::string_view exif(reinterpret_cast<const char*>(chunk.chunk.bytes), chunk.chunk.size);
  if (exif.substr(0, 6) == std::string_view("Exif\0\0", 6)) exif.remove_prefix(6);
  orientation = read_orientation(exif);
  WebPDemuxReleaseChunkIterator(&chunk);
}

// The first frame of a moving picture, on its canvas.
bool decode_frame(const WebPData& data, Image& image) {
  WebPAnimDecoderOptions options;
  WebPAnimDecoderOptionsInit(&options);
  options.color_mode = MODE_RGBA;
  std::unique_ptr<WebPAnimDecoder, void (*)(WebPAnimDecoder*)> decoder(
      WebPAnimDecoderNew(&data, &options), WebPAnimDecoderDelete);
  uint8_t* canvas = nullptr;
  int timestamp = 0;
  if (!decoder || !WebPAnimDecoderGetNext(decoder.get(), &canvas, &timestamp)) return false;
  for (size_t i = 0, count = image.pixels.size() / 3; i < count; ++i)
    std::copy(canvas + i * 4, canvas + i * 4 + 3, &image.pixels[i * 3]);
  return true;
}

}  // namespace

Image decode_webp(std::string_view bytes, const std::string& name, int& orientation) {
  WebPData data{reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()};
  WebPBitstreamFeatures features;
  if (WebPGetFeatures(data.bytes, data.size, &features) != VP8_STATUS_OK)
    throw FormatError(name + ": not a whole WebP image");
  check_size(uint64_t(features.width), uint64_t(features.height), name);
  Demuxer demuxer(WebPDemux(&data), WebPDemuxDelete);
  if (!demuxer) throw FormatError(name + ": not a whole WebP image");
  find_orientation(demuxer.get(), orientation);
  Image image{features.width, features.height, 3, {}};
  image.pixels.resize(size_t(image.width) * size_t(image.height) * 3);
  // A still picture goes straight to its place: the other way takes two canvases more.
  bool ok = features.has_animation
                ? decode_frame(data, image)
                : WebPDecodeRGBInto(data.bytes, data.size, image.pixels.data(), image.pixels.size(),
                                    image.width * 3) != nullptr;
  if (!ok) throw FormatError(name + ": the WebP image is corrupt");
  return image;
}

}  // namespace pretrained::vision
