#include <webp/decode.h>
#include <webp/demux.h>

#include <memory>

#include "pretrained/base/error.h"
#include "pretrained/vision/codecs.h"

namespace pretrained::vision {

Image decode_webp(std::string_view bytes, const std::string& name, int& orientation) {
  WebPData data{reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()};
  WebPBitstreamFeatures features;
  if (WebPGetFeatures(data.bytes, data.size, &features) != VP8_STATUS_OK)
    throw FormatError(name + ": not a whole WebP image");
  check_size(uint64_t(features.width), uint64_t(features.height), name);
  std::unique_ptr<WebPDemuxer, void (*)(WebPDemuxer*)> demuxer(WebPDemux(&data), WebPDemuxDelete);
  if (!demuxer) throw FormatError(name + ": not a whole WebP image");
  WebPChunkIterator chunk;
  if (WebPDemuxGetChunk(demuxer.get(), "EXIF", 1, &chunk)) {
    std::string_view exif(reinterpret_cast<const char*>(chunk.chunk.bytes), chunk.chunk.size);
    if (exif.substr(0, 6) == std::string_view("Exif\0\0", 6)) exif.remove_prefix(6);
    orientation = read_orientation(exif);
    WebPDemuxReleaseChunkIterator(&chunk);
  }
  Image image{features.width, features.height, 3, {}};
  image.pixels.resize(size_t(image.width) * size_t(image.height) * 3);
  WebPAnimDecoderOptions options;
  WebPAnimDecoderOptionsInit(&options);
  options.color_mode = MODE_RGBA;
  // Pillow decodes every WebP, moving or not, frame by frame onto a canvas.
  std::unique_ptr<WebPAnimDecoder, void (*)(WebPAnimDecoder*)> decoder(
      WebPAnimDecoderNew(&data, &options), WebPAnimDecoderDelete);
  uint8_t* canvas = nullptr;
  int timestamp = 0;
  if (!decoder || !WebPAnimDecoderGetNext(decoder.get(), &canvas, &timestamp))
    throw FormatError(name + ": the WebP image is corrupt");
  for (size_t i = 0, count = size_t(image.width) * size_t(image.height); i < count; ++i)
    std::copy(canvas + i * 4, canvas + i * 4 + 3, &image.pixels[i * 3]);
  return image;
}

}  // namespace pretrained::vision
