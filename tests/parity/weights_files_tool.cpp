// Weights for weights_files.py.
//   copy IN OUT               a safetensors or pickle file, read and written again by us
//   shard IN FOLDER LIMIT VARIANT   written as a model's shards
//   merge FOLDER OUT          a folder's weights into one file
#include <pretrained/model/weights.h>

#include <iostream>

int main(int, char** argv) try {
  std::string what = argv[1];
  if (what == "copy") pretrained::save_file(pretrained::load_file(argv[2]), argv[3]);
  if (what == "shard") {
    pretrained::FolderUpdate update(argv[3]);
    pretrained::add_weights(update, pretrained::load_file(argv[2]),
                            {.max_shard_size = argv[4], .variant = argv[5]});
    update.commit();
  }
  if (what == "merge") pretrained::save_file(pretrained::load_folder(argv[2], ""), argv[3]);
  return 0;
} catch (const pretrained::Error& error) {
  std::cerr << error.what() << "\n";
  return error.exit_code();
}
