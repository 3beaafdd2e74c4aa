package drivelake;

import io.delta.storage.HadoopFileSystemLogStore;
import java.io.ByteArrayOutputStream;
import java.io.FileNotFoundException;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileAlreadyExistsException;
import java.util.Arrays;
import java.util.Iterator;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.Abortable;
import org.apache.hadoop.fs.FSDataOutputStream;
import org.apache.hadoop.fs.FSDataOutputStreamBuilder;
import org.apache.hadoop.fs.FileSystem;
import org.apache.hadoop.fs.Path;
import org.apache.hadoop.fs.s3a.RemoteFileChangedException;

/**
 * Commits of Delta on S3 by conditional put: of two drivers that write one log entry, one wins.
 *
 * <p>Delta's own store for S3 guards against writers in the same JVM only and loses commits between
 * two drivers. Here the object is put with If-None-Match, so the storage itself decides.
 *
 * <p>A put that is answered with "exists" may be our own, retried after its answer was lost: the
 * entry is read back, and the same bytes mean that we had won.
 */
public class ConditionalPutLogStore extends HadoopFileSystemLogStore {
  private static final String CONDITIONAL = "fs.option.create.conditional.overwrite";
  private static final int ATTEMPTS = 5;

  public ConditionalPutLogStore(Configuration configuration) {
    super(configuration);
  }

  @Override
  public void write(Path path, Iterator<String> actions, Boolean overwrite, Configuration conf)
      throws IOException {
    // All of it first: closing a stream after a failure in the middle would publish half an entry.
    byte[] entry = bytesOf(actions);
    FileSystem files = path.getFileSystem(conf);
    if (overwrite) {
      put(files.create(path, true), entry);
      return;
    }
    for (int attempt = 1; ; attempt++) {
      try {
        put(createNew(files, path), entry);
        return;
      } catch (RemoteFileChangedException | org.apache.hadoop.fs.FileAlreadyExistsException e) {
        byte[] winner = read(files, path, entry.length + 1);
        if (winner == null && attempt < ATTEMPTS) {
          continue; // 409: the rival's put was under way and then failed
        }
        if (winner == null || !Arrays.equals(winner, entry)) {
          throw new FileAlreadyExistsException(path.toString());
        }
        return;
      }
    }
  }

  @Override
  public Boolean isPartialWriteVisible(Path path, Configuration conf) {
    return false;
  }

  private static byte[] bytesOf(Iterator<String> actions) throws IOException {
    ByteArrayOutputStream entry = new ByteArrayOutputStream();
    while (actions.hasNext()) {
      entry.write(actions.next().getBytes(StandardCharsets.UTF_8));
      entry.write('\n');
    }
    return entry.toByteArray();
  }

  private static FSDataOutputStream createNew(FileSystem files, Path path) throws IOException {
    FSDataOutputStreamBuilder<?, ?> builder = files.createFile(path);
    builder.overwrite(false).must(CONDITIONAL, true);
    return builder.build();
  }

  private static void put(FSDataOutputStream stream, byte[] entry) throws IOException {
    try {
      stream.write(entry);
    } catch (IOException | RuntimeException e) {
      ((Abortable) stream).abort(); // close() would put what was written so far
      throw e;
    }
    stream.close();
  }

  /** The first bytes of an object, at most `limit`; null if there is no object. */
  private static byte[] read(FileSystem files, Path path, int limit) throws IOException {
    try (InputStream stream = files.open(path)) {
      return stream.readNBytes(limit);
    } catch (FileNotFoundException e) {
      return null;
    }
  }
}
