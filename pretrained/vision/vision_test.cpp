#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

// libjpeg needs FILE and size_t first.
#include <cstdio>

#include <jpeglib.h>

#include "pretrained/base/error.h"
#include "pretrained/base/files.h"
#include "pretrained/vision/image.h"
#include "pretrained/vision/image_processor.h"

namespace {

namespace fs = std::filesystem;
using namespace pretrained;
using namespace pretrained::vision;
using testing::HasSubstr;

// A black grey picture, its DC coefficients in one scan and then one AC scan for each further.
std::string progressive_jpeg(int side, int scans) {
  jpeg_compress_struct info{};
  jpeg_error_mgr errors{};
  info.err = jpeg_std_error(&errors);
  jpeg_create_compress(&info);
  unsigned char* bytes = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&info, &bytes, &size);
  info.image_width = info.image_height = JDIMENSION(side);
  info.input_components = 1;
  info.in_color_space = JCS_GRAYSCALE;
  jpeg_set_defaults(&info);
  std::vector<jpeg_scan_info> script{{1, {0}, 0, 0, 0, 0}};
  for (int i = 1; i < scans && i < 64; ++i) script.push_back({1, {0}, i, i, 0, 0});
  info.scan_info = script.data();
  info.num_scans = int(script.size());
  jpeg_start_compress(&info, TRUE);
  std::vector<JSAMPLE> line(static_cast<size_t>(side));
  for (JSAMPROW row = line.data(); info.next_scanline < info.image_height;)
    jpeg_write_scanlines(&info, &row, 1);
  jpeg_finish_compress(&info);
  std::string out(reinterpret_cast<char*>(bytes), size);
  jpeg_destroy_compress(&info);
  free(bytes);
  return out;
}

// The last scan, `times` more.
std::string repeat_last_scan(std::string jpeg, int times) {
  size_t at = jpeg.rfind("\xFF\xDA");
  std::string scan = jpeg.substr(at, jpeg.size() - 2 - at), out = jpeg.substr(0, jpeg.size() - 2);
  for (int i = 0; i < times; ++i) out += scan;
  return out + "\xFF\xD9";
}

template <class Call>
std::string error_of(Call call) {
  try {
    call();
  } catch (const FormatError& error) {
    return error.what();
  }
  return "no error";
}

std::string config_error(const std::string& json) {
  return error_of(
      [&] { ImageProcessor::from_json(Json::parse(json, "there/p.json"), "there/p.json"); });
}

struct Folder {
  Folder() { fs::create_directories(path); }
  ~Folder() { fs::remove_all(path); }
  fs::path path = fs::temp_directory_path() / ("vision_test." + std::to_string(getpid()));
};

TEST(Jpeg, ProgressivePhotographsDecode) {
  auto image = decode_image(progressive_jpeg(256, 12), "x");
  EXPECT_EQ(image.width, 256);
  EXPECT_EQ(image.pixels[0], 0);
}

TEST(Jpeg, ThousandsOfScansAreRefused) {
  std::string bomb = repeat_last_scan(progressive_jpeg(64, 3), 2000);
  EXPECT_THAT(error_of([&] { decode_image(bomb, "bomb.jpg"); }),
              HasSubstr("bomb.jpg: a progressive JPEG of 64 × 64 pixels with 501 or more scans"));
}

TEST(Jpeg, ScansOfALargePictureAreFewer) {
  std::string bomb = repeat_last_scan(progressive_jpeg(12000, 2), 400);
  EXPECT_THAT(error_of([&] { decode_image(bomb, "bomb.jpg"); }), HasSubstr("with 28 or more"));
}

TEST(ImageProcessor, SizesAreBounded) {
  EXPECT_THAT(config_error(R"({"crop_size": {"height": 16384, "width": 16384}})"),
              HasSubstr("there/p.json: field 'crop_size': 16384 × 16384 pixels, at most 16777216"));
  EXPECT_THAT(config_error(R"({"size": {"height": 8192, "width": 4096}})"),
              HasSubstr("field 'size': 8192 × 4096"));
  EXPECT_THAT(config_error(R"({"size": {"shortest_edge": 5000}})"),
              HasSubstr("field 'size.shortest_edge': 5000 × 5000"));
  EXPECT_EQ(config_error(R"({"size": {"height": 16384, "width": 1024}})"), "no error");
}

TEST(ImageProcessor, NumbersMustBeUsable) {
  EXPECT_THAT(config_error(R"({"image_std": [0.2, 0, 0.2]})"),
              HasSubstr("there/p.json: field 'image_std': expected numbers other than 0"));
  EXPECT_THAT(config_error(R"({"image_std": [0.2, NaN, 0.2]})"), HasSubstr("finite"));
  EXPECT_THAT(config_error(R"({"image_mean": [0.2, 1e300, 0.2]})"),
              HasSubstr("field 'image_mean': expected a finite number, got 1e+300"));
  EXPECT_THAT(config_error(R"({"rescale_factor": Infinity})"), HasSubstr("rescale_factor"));
  EXPECT_THAT(
      error_of([] { ImageProcessor::from_timm(Json::parse(R"({"std": [0, 1, 1]})", "x"), "x"); }),
      HasSubstr("field 'std'"));
}

TEST(ImageProcessor, ErrorsNameTheFile) {
  Folder folder;
  auto file = (folder.path / "preprocessor_config.json").string();
  write_file_atomically(file, R"({"do_resize": 3})");
  auto load = [&] { ImageProcessor::from_pretrained(folder.path).output_height(); };
  EXPECT_THAT(error_of(load), HasSubstr(file + ": field 'do_resize'"));
  write_file_atomically(file, R"({"size": {"shortest_edge": 64}})");
  EXPECT_THAT(error_of(load), HasSubstr(file + ": the size of the result depends"));
  fs::remove(file);
  try {
    load();
    FAIL();
  } catch (const NotFoundError& error) {
    EXPECT_THAT(error.what(), HasSubstr(".save_pretrained(folder)"));
  }
}

TEST(ImageProcessor, TooWidePicturesAreBadData) {
  Image image{70000, 1, 3, std::vector<uint8_t>(70000 * 3)};
  EXPECT_THAT(error_of([&] { ImageProcessor().preprocess(image); }), HasSubstr("70000 × 1"));
}

}  // namespace
