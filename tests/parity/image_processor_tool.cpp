// Pictures for image_processor.py.
//   decode FILE OUT            width height, then RGB bytes; exit code 5 for what cannot be decoded
//   timm CFG FILE OUT OUT_F32  the 8-bit picture after resize and crop (as above), and the floats
//   folder DIR FILE OUT_F32    by ImageProcessor::from_pretrained
#include <pretrained/base/files.h>
#include <pretrained/vision/image_processor.h>

#include <cstring>
#include <iostream>

#include "pretrained/base/error.h"

namespace vision = pretrained::vision;

static void write(const vision::Image& image, const char* path) {
  std::string out = std::to_string(image.width) + " " + std::to_string(image.height) + "\n";
  out.append(image.pixels.begin(), image.pixels.end());
  pretrained::write_file_atomically(path, out);
}

static void write(const std::vector<float>& values, const char* path) {
  pretrained::write_file_atomically(
      path, {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)});
}

int main(int, char** argv) try {
  std::string what = argv[1];
  if (what == "decode") write(vision::read_image(argv[2]), argv[3]);
  if (what == "timm") {
    auto processor =
        vision::ImageProcessor::from_timm(pretrained::Json::parse(argv[2], "cfg"), "cfg");
    auto image = vision::read_image(argv[3], {.apply_exif_orientation = false});
    write(processor.preprocess_image(image), argv[4]);
    write(processor.preprocess(image), argv[5]);
  }
  if (what == "folder")
    write(vision::ImageProcessor::from_pretrained(argv[2]).preprocess(vision::read_image(argv[3])),
          argv[4]);
  return 0;
} catch (const pretrained::Error& error) {
  std::cerr << error.what() << "\n";
  return error.exit_code();
}
