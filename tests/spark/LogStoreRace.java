import io.delta.storage.LogStore;
import java.nio.file.FileAlreadyExistsException;
import java.util.List;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.Path;

/** Writes log entries 0, 1, … as a driver would, from a given moment on; prints those it won. */
public class LogStoreRace {
  public static void main(String[] arguments) throws Exception {
    String store = arguments[0];
    String folder = arguments[1];
    String name = arguments[2];
    int entries = Integer.parseInt(arguments[3]);
    Configuration configuration = new Configuration();
    for (int i = 4; i < arguments.length; i++) {
      String[] property = arguments[i].split("=", 2);
      configuration.set(property[0], property[1]);
    }
    LogStore log =
        (LogStore)
            Class.forName(store).getConstructor(Configuration.class).newInstance(configuration);
    log.write(new Path(folder, "warm-" + name), List.of(name).iterator(), true, configuration);
    System.out.println("ready");
    System.in.read();
    for (int entry = 0; entry < entries; entry++) {
      Path path = new Path(folder, String.format("%020d.json", entry));
      try {
        log.write(path, List.of(name, "entry " + entry).iterator(), false, configuration);
        System.out.println(entry);
      } catch (FileAlreadyExistsException e) {
        continue; // the rival won
      }
    }
  }
}
