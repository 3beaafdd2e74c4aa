package drivelake;

import java.nio.file.Files;
import java.nio.file.Path;

/** Loads the classes of a list, so that Java, as it ends, has them for its archive. */
public final class LoadClasses {
  private LoadClasses() {}

  /**
   * Loads and does not initialise them: nothing of theirs is run.
   *
   * @param arguments a file with one name a line, as -XX:DumpLoadedClassList writes it
   */
  public static void main(String[] arguments) throws Exception {
    ClassLoader loader = LoadClasses.class.getClassLoader();
    for (String name : Files.readAllLines(Path.of(arguments[0]))) {
      try {
        Class.forName(name, false, loader);
      } catch (ClassNotFoundException | LinkageError missing) {
        // Made at run time, or of a part that is not installed: it is loaded as ever.
      }
    }
  }
}
